"""Access: the key that a request presents, the scope that each path needs, and addresses without keys."""

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from tests.service.conftest import Words
from udr.client import PROBLEM
from udr.errors import ConfigError
from udr.retrieval import Retriever
from udr_service import Settings, create_app
from udr_service.auth import Scope, allowed, is_own_name, needed, presented, refuse_open_address

PRESENTED = [
    ({"Authorization": "Bearer abc"}, "abc"),
    ({"aUTHORIZATION": "bEaReR   abc"}, "abc"),
    ({"Authorization": "Bearer a-._~+/=!x"}, "a-._~+/=!x"),
    ({"x-API-key": "abc"}, "abc"),
    ({"X-Api-Key": "other", "Authorization": "Bearer abc"}, "abc"),
    ({"Authorization": "Basic dTpw", "X-Api-Key": "abc"}, "abc"),
    ({"Authorization": "Bearer a b", "X-Api-Key": "abc"}, None),
    *(({"X-Api-Key": value}, None) for value in ("", "a b", "abc\n")),
    *(({"Authorization": value}, None) for value in ("", "abc", "Basic abc", "Bearers abc", "Bearer", "Bearer  ")),
    *(({"Authorization": f"Bearer {key}"}, None) for key in ("abc abd", "abc, Bearer abd", "\tabc", "abc\n", "ab\xe7")),
]


@pytest.mark.parametrize(("headers", "key"), PRESENTED, ids=str)
def test_presented_returns_well_formed_keys_only(headers: dict[str, str], key: str | None) -> None:
    assert presented(headers) == key
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    assert presented(Headers(raw=raw)) == key


@pytest.mark.parametrize("name", [b"authorization", b"x-api-key"])
def test_a_header_with_two_values_presents_nothing(name: bytes) -> None:
    """A proxy in front of the service may have checked the other value."""
    scheme = b"Bearer " if name == b"authorization" else b""
    different = Headers(raw=[(name, scheme + b"abc"), (name, scheme + b"abd")])
    equal = Headers(raw=[(name, scheme + b"abc"), (name, scheme + b"abc")])
    assert (presented(different), presented(equal)) == (None, "abc")


@given(st.dictionaries(st.sampled_from(["authorization", "Authorization", "X-Api-Key", "X"]), st.text()))
def test_no_header_raises(headers: dict[str, str]) -> None:
    key = presented(headers)
    assert key is None or (key.isascii() and key.isprintable() and " " not in key and key)


PATHS = {
    None: "/ /docs /livez /readyz /v1/openapi.json /playground/page.js",
    Scope.READ: "/v1/retrieve /v1/retrieve/batch /v1/prompt /v1/embeddings /v1/info /v1 /v1/administer "
    "/v1/tasks/trec/demonstrations/v1/admin/reload /livez/ //livez /livez/x /docs/ /playground /playgrounds/x "
    "/V1/retrieve /new",
    Scope.ADMIN: "/v1/admin /v1/admin/ /v1/admin/reload /v1/admin/playground/ /metrics",
}


@pytest.mark.parametrize(("scope", "path"), [(scope, path) for scope, paths in PATHS.items() for path in paths.split()])
def test_each_path_needs_its_scope_and_unknown_ones_are_not_open(scope: Scope | None, path: str) -> None:
    assert needed(path) is scope
    scopes = [None, Scope.READ, Scope.ADMIN]
    assert [key for key in scopes if allowed(key, path)] == scopes[scopes.index(scope) :]


LOOPBACK = "127.0.0.1 127.8.9.10 ::1 0:0:0:0:0:0:0:1 ::ffff:127.0.0.1 localhost LocalHost"
OPEN = "0.0.0.0 :: 10.0.0.1 192.168.1.5 169.254.0.1 128.0.0.1 ::2 ::ffff:10.0.0.1 fe80::1 example.org "
OPEN += "localhost.example.org 127.0.0.1.example.org 127.1 [::1]"


@pytest.mark.parametrize("host", ["", " 127.0.0.1", *OPEN.split()])
def test_open_addresses_need_keys_or_permission(host: str) -> None:
    with pytest.raises(ConfigError, match=r"--keys .*127\.0\.0\.1.*--insecure-no-keys") as raised:
        refuse_open_address(host, has_keys=False, allowed_without=False)
    assert (host or "any address") in str(raised.value)
    refuse_open_address(host, has_keys=True, allowed_without=False)
    refuse_open_address(host, has_keys=False, allowed_without=True)
    for loopback in LOOPBACK.split():
        refuse_open_address(loopback, has_keys=False, allowed_without=False)


def test_is_own_name_takes_loopback_names_with_and_without_a_port() -> None:
    own = "localhost localhost:8000 127.0.0.1 127.0.0.1:80 [::1] [::1]:8000 LOCALHOST:1".split()
    foreign = "evil.example evil.example:8000 localhost.evil.example 127.0.0.1.evil.example 10.0.0.1 ::1".split()
    assert [host for host in [*own, "", *foreign] if is_own_name(host)] == own


def test_a_service_without_keys_answers_to_its_own_names_only(retriever: Retriever) -> None:
    app = create_app(retriever, Settings(), Words(), own_names_only=True)
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        assert client.get("/v1/info").status_code == 200
        refused = client.get("/v1/info", headers={"Host": "evil.example:8000"})

    assert refused.status_code == 421
    assert refused.json()["type"] == f"{PROBLEM}foreign-host"
    assert "found 'evil.example:8000'; start it with --keys" in refused.json()["detail"]
