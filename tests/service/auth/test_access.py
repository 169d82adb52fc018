"""Access: which key a request presents, what it may ask for with it, and where the service may listen without any."""

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

PRESENTED = {
    "bearer": ({"Authorization": "Bearer abc"}, "abc"),
    "scheme in any case": ({"Authorization": "bEaReR abc"}, "abc"),
    "header in any case": ({"aUTHORIZATION": "Bearer abc"}, "abc"),
    "several blanks": ({"Authorization": "Bearer   abc"}, "abc"),
    "all that a header carries": ({"Authorization": "Bearer a-._~+/=!x"}, "a-._~+/=!x"),
    "own header": ({"X-Api-Key": "abc"}, "abc"),
    "own header in any case": ({"x-API-key": "abc"}, "abc"),
    "both": ({"X-Api-Key": "other", "Authorization": "Bearer abc"}, "abc"),
    "a proxy's own": ({"Authorization": "Basic dTpw", "X-Api-Key": "abc"}, "abc"),
    "nothing": ({}, None),
    "another header": ({"Accept": "abc", "Api-Key": "abc"}, None),
    "no scheme": ({"Authorization": "abc"}, None),
    "another scheme": ({"Authorization": "Basic abc"}, None),
    "a scheme that begins so": ({"Authorization": "Bearers abc"}, None),
    "no key": ({"Authorization": "Bearer"}, None),
    "a blank for a key": ({"Authorization": "Bearer  "}, None),
    "two keys": ({"Authorization": "Bearer abc abd"}, None),
    "two keys, comma": ({"Authorization": "Bearer abc, Bearer abd"}, None),
    "a tab": ({"Authorization": "Bearer\tabc"}, None),
    "a newline": ({"Authorization": "Bearer abc\n"}, None),
    "no ASCII": ({"Authorization": "Bearer ab\xe7"}, None),
    "malformed, and another": ({"Authorization": "Bearer a b", "X-Api-Key": "abc"}, None),
    "empty": ({"Authorization": "", "X-Api-Key": ""}, None),
    "own header with a blank": ({"X-Api-Key": "a b"}, None),
    "own header with a scheme": ({"X-Api-Key": "Bearer abc"}, None),
    "own header, a newline": ({"X-Api-Key": "abc\n"}, None),
}


@pytest.mark.parametrize(("headers", "key"), PRESENTED.values(), ids=PRESENTED)
def test_a_key_is_presented_in_good_form_or_not_at_all(headers: dict[str, str], key: str | None) -> None:
    assert presented(headers) == key
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    assert presented(Headers(raw=raw)) == key, "as a request has them"


@pytest.mark.parametrize("name", [b"authorization", b"x-api-key"])
def test_a_header_with_two_values_presents_nothing(name: bytes) -> None:
    """Whoever stands before the service may have looked at the other one."""
    scheme = b"Bearer " if name == b"authorization" else b""
    twice = Headers(raw=[(name, scheme + b"abc"), (name, scheme + b"abd")])
    same = Headers(raw=[(name, scheme + b"abc"), (name, scheme + b"abc")])
    assert (presented(twice), presented(same)) == (None, "abc")


@given(st.dictionaries(st.sampled_from(["authorization", "Authorization", "X-Api-Key", "X"]), st.text()))
def test_no_header_makes_it_fail(headers: dict[str, str]) -> None:
    key = presented(headers)
    assert key is None or (key.isascii() and key.isprintable() and " " not in key and key)


READ, ADMIN = Scope.READ, Scope.ADMIN
PATHS = {
    "/": None,
    "/livez": None,
    "/readyz": None,
    "/v1/openapi.json": None,
    "/playground/page.js": None,
    "/v1/retrieve": READ,
    "/v1/retrieve/batch": READ,
    "/v1/prompt": READ,
    "/v1/embeddings": READ,
    "/v1/info": READ,
    "/v1/tasks/trec/demonstrations/v1/admin/reload": READ,
    "/v1": READ,
    "/v1/administer": READ,
    "/v1/admin": ADMIN,
    "/v1/admin/": ADMIN,
    "/v1/admin/reload": ADMIN,
    "/v1/admin/playground/": ADMIN,
    "/metrics": ADMIN,
}


@pytest.mark.parametrize(("path", "scope"), PATHS.items())
def test_each_path_needs_its_scope(path: str, scope: Scope | None) -> None:
    assert needed(path) is scope
    granted = [key for key in (None, READ, ADMIN) if allowed(key, path)]
    assert granted == {None: [None, READ, ADMIN], READ: [READ, ADMIN], ADMIN: [ADMIN]}[scope]


@pytest.mark.parametrize(
    "path", ["", "/livez/", "//livez", "/livez/x", "/docs", "/playground", "/playgrounds/x", "/V1/retrieve", "/new"]
)
def test_what_is_not_listed_is_not_open(path: str) -> None:
    assert needed(path) is READ and not allowed(None, path)


LOOPBACK = ["127.0.0.1", "127.8.9.10", "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "localhost", "LocalHost"]
OPEN = [
    "0.0.0.0",
    "::",
    "",
    "10.0.0.1",
    "192.168.1.5",
    "169.254.0.1",
    "128.0.0.1",
    "::2",
    "::ffff:10.0.0.1",
    "fe80::1",
    "example.org",
    "localhost.example.org",
    "127.0.0.1.example.org",
    "127.1",
    "[::1]",
    " 127.0.0.1",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_on_loopback_no_keys_are_asked_for(host: str) -> None:
    refuse_open_address(host, has_keys=False, allowed_without=False)


@pytest.mark.parametrize("host", OPEN)
def test_elsewhere_it_takes_keys_or_the_user_s_word(host: str) -> None:
    with pytest.raises(ConfigError, match=r"--keys .*127\.0\.0\.1.*--insecure-no-keys") as raised:
        refuse_open_address(host, has_keys=False, allowed_without=False)
    assert (host or "any address") in str(raised.value)
    refuse_open_address(host, has_keys=True, allowed_without=False)
    refuse_open_address(host, has_keys=False, allowed_without=True)


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:8000", "LOCALHOST:1"]
)
def test_a_machine_s_own_names_are_known_with_and_without_a_port(host: str) -> None:
    assert is_own_name(host)


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "::1"],
)
def test_names_that_others_could_have_are_not(host: str) -> None:
    assert not is_own_name(host)


def test_a_service_without_keys_answers_to_its_own_names_only(retriever: Retriever) -> None:
    app = create_app(retriever, Settings(), Words(), own_names_only=True)
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        assert client.get("/v1/info").status_code == 200
        refused = client.get("/v1/info", headers={"Host": "evil.example:8000"})

    assert refused.status_code == 421
    assert refused.json()["type"] == f"{PROBLEM}foreign-host"
    assert "asked as 'evil.example:8000'; give it keys" in refused.json()["detail"]
