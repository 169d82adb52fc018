"""Access: what pages of other sites may send, ambiguous hosts, what a refusal tells, and what is logged of it."""

import socket
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.service.conftest import BODY, Words, served
from tests.service.observability.test_audit import lines
from tests.service.running import running
from udr.client import PROBLEM
from udr.retrieval import Retriever
from udr_service import Settings, create_app
from udr_service.auth import Scope, append, new_key

PAGE = "https://page.example"
OWN = [
    {},
    {"Sec-Fetch-Site": "same-origin", "Origin": "http://testserver"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://testserver"},
    {"Origin": PAGE},
    {"Sec-Fetch-Site": "cross-site", "Origin": PAGE},
]
FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://testserver"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    *({"Origin": origin} for origin in ("https://evil.example", "null", "", "http://testserver:81")),
]


@pytest.mark.parametrize("path", ["/v1/retrieve", "/v1/retrieve/batch", "/v1/prompt", "/v1/embeddings"])
@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_without_keys_pages_of_other_sites_are_refused(
    retriever: Retriever, headers: dict[str, str], path: str
) -> None:
    with served(retriever, cors_origins=(PAGE,)) as client:
        refused = client.post(path, json=BODY, headers=headers)
        reload = client.post("/v1/admin/reload", headers={**headers, "Content-Type": "text/plain"})
        assert client.get("/v1/info", headers=headers).status_code == 200
    assert refused.status_code == reload.status_code == 403
    assert reload.json()["type"] == f"{PROBLEM}cross-site"
    assert "start it with --keys, or add the origin to UDR_CORS_ORIGINS" in reload.json()["detail"]


@pytest.mark.parametrize("headers", OWN, ids=str)
def test_own_pages_listed_pages_and_other_programs_are_answered(retriever: Retriever, headers: dict[str, str]) -> None:
    with served(retriever, cors_origins=(PAGE,)) as client:
        assert client.post("/v1/retrieve", json=BODY, headers=headers).status_code == 200
        assert client.post("/v1/admin/reload", headers=headers).status_code == 409
    with served(retriever, cors_origins=("*",)) as client:
        assert client.post("/v1/retrieve", json=BODY, headers=FOREIGN[2]).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_a_body_that_a_form_can_send_is_refused(retriever: Retriever, kind: str | None) -> None:
    with served(retriever) as client:
        headers = {} if kind is None else {"Content-Type": kind}
        answer = client.post("/v1/retrieve", content=b'{"scope": "all", "input": "x"}', headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (415, f"{PROBLEM}not-json")


def test_with_keys_the_key_decides_and_refusals_are_audited(
    retriever: Retriever, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key, entry = new_key("page", Scope.READ)
    append(tmp_path / "keys.toml", entry)
    with served(retriever, keys=tmp_path / "keys.toml") as client:

        def post(path: str, **headers: str) -> int:
            return client.post(path, json=BODY, headers=headers).status_code

        authorization = f"Bearer {key}"
        assert post("/v1/retrieve", Authorization=authorization, Origin="https://evil.example") == 200
        assert post("/v1/retrieve") == post("/v1/retrieve", Authorization="Bearer udr_guess") == 401
        assert post("/v1/admin/reload", Authorization=authorization) == 403
    logged = [(line["event"], line["client"], line.get("key_name")) for line in lines(caplog)]
    assert logged == [
        ("missing_key", "testclient", None),
        ("unknown_key", "testclient", None),
        ("scope", "testclient", "page"),
    ]
    assert "udr_guess" not in caplog.text and key[4:] not in caplog.text


def test_nothing_names_the_index_before_a_key_is_accepted(retriever: Retriever, tmp_path: Path) -> None:
    key, entry = new_key("page", Scope.READ)
    append(tmp_path / "keys.toml", entry)
    header = "X-Udr-Index-Version"
    with served(retriever, keys=tmp_path / "keys.toml") as client:
        for path in ("/v1/info", "/v1/nothing", "/v1/openapi.json", "/livez"):
            assert header not in client.get(path).headers
        for path, status in (("/v1/info", 200), ("/v1/nothing", 404)):
            answer = client.get(path, headers={"X-Api-Key": key})
            assert (answer.status_code, answer.headers[header]) == (status, retriever.index_version)
    with TestClient(create_app(retriever, Settings(), Words(), own_names_only=True), "http://evil.example") as client:
        foreign = client.get("/v1/info")
    assert foreign.status_code == 421 and header not in foreign.headers


@pytest.mark.parametrize("with_keys", [True, False])
@pytest.mark.parametrize(
    ("twice", "status"),
    [("Host: 127.0.0.1\r\nHost: 127.0.0.1", 400), ("Host: a\r\nContent-Length: 2\r\nContent-Length: 3", 400)],
)
def test_a_header_that_decides_must_not_be_sent_twice(
    retriever: Retriever, tmp_path: Path, with_keys: bool, twice: str, status: int
) -> None:
    key, entry = new_key("page", Scope.READ)
    append(tmp_path / "keys.toml", entry)
    settings = Settings(keys=tmp_path / "keys.toml" if with_keys else None)
    with (
        running(create_app(retriever, settings, Words())) as address,
        socket.create_connection((address.split("//")[1].split(":")[0], int(address.rpartition(":")[2]))) as connection,
    ):
        connection.sendall(f"GET /v1/info HTTP/1.1\r\n{twice}\r\nX-Api-Key: {key}\r\n\r\n{{}}".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 %d " % status)


def test_a_request_with_two_hosts_is_told_so(retriever: Retriever) -> None:
    with served(retriever) as client:
        answer = client.get("/v1/info", headers=[("Host", "testserver"), ("Host", "other")])
    assert (answer.status_code, answer.json()["type"]) == (400, f"{PROBLEM}ambiguous-host")
    assert "2 Host headers" in answer.json()["detail"]
