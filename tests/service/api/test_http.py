"""What clients and proxies send: methods, null, encodings, preconditions."""

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.fakes import HashEncoder
from tests.service.conftest import BODY, Words
from udr.retrieval import Retriever
from udr.store import open_version, read_current
from udr_service import Settings, create_app
from udr_service.observability import Metrics
from udr_service.schemas import EmbeddingsBody, PromptBody, RetrieveBody
from udr_service.serving import ActiveVersion, CachingEncoder


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/metrics", "/v1/info", "/v1/tasks/notes", "/v1/models"])
def test_head_is_get_without_the_body(service: TestClient, path: str) -> None:
    get, head = service.get(path), service.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Type"] == get.headers["Content-Type"]
    refused = service.delete(path)
    assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, HEAD")
    assert service.head("/v1/retrieve").status_code == 405


@pytest.mark.parametrize(
    ("path", "schema", "body"),
    [
        ("/v1/retrieve", RetrieveBody, BODY),
        ("/v1/prompt", PromptBody, {**BODY, "budget": 99}),
        ("/v1/embeddings", EmbeddingsBody, {"input": "a dull day"}),
    ],
)
def test_null_for_an_optional_field_means_absent(service: TestClient, path: str, schema: Any, body: Any) -> None:
    optional = {name for name, field in schema.model_fields.items() if not field.is_required()} - body.keys()
    assert len(optional) >= 4
    answers = [service.post(path, json=each) for each in (body, {**body, **dict.fromkeys(optional)})]
    assert answers[0].status_code == 200
    # Each prompt has its own name.
    first, second = ({name: item for name, item in each.json().items() if name != "prompt_id"} for each in answers)
    assert first == second
    required = "budget" if path == "/v1/prompt" else "input"
    assert service.post(path, json={**body, required: None}).status_code == 422
    assert service.post(path, json={**body, "unknown": None}).status_code == 422


@pytest.mark.parametrize(
    ("headers", "content", "message"),
    [
        ({"Content-Encoding": "gzip"}, gzip.compress(json.dumps(BODY).encode()), "Content-Encoding 'gzip'"),
        ({"Content-Type": "application/json; charset=utf-16"}, json.dumps(BODY).encode("utf-16"), "charset 'utf-16'"),
        ({"Content-Type": "application/json; charset=latin1"}, b'{"input": "\xe9"}', "charset 'latin1'"),
    ],
)
def test_other_encodings_are_refused_by_name(
    service: TestClient, headers: dict[str, str], content: bytes, message: str
) -> None:
    answer = service.post("/v1/retrieve", content=content, headers={"Content-Type": "application/json", **headers})
    assert answer.status_code == 415
    assert answer.json()["type"] == "urn:udr:problem:unsupported-content" and message in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/retrieve", "/v1/retrieve/batch", "/v1/prompt", "/v1/embeddings"])
def test_a_key_may_not_occur_twice(service: TestClient, path: str) -> None:
    body = '{"input": {"a": 1, "a": 2}}'
    answer = service.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert "an object has a duplicate key, among 'a', 'a'" in answer.text


@pytest.mark.parametrize("declared", ["application/json; charset=UTF-8", 'application/json; charset="utf-8"'])
def test_utf_8_may_be_declared(service: TestClient, declared: str) -> None:
    headers = {"Content-Type": declared, "Content-Encoding": "identity"}
    assert service.post("/v1/retrieve", content=json.dumps(BODY), headers=headers).status_code == 200


def test_a_request_may_ask_for_one_index_version(service: TestClient, retriever: Retriever) -> None:
    def ask(version: str) -> Any:
        return service.post("/v1/retrieve", json=BODY, headers={"X-Udr-Index-Version": version})

    assert ask(retriever.index_version).status_code == 200
    refused = ask("other")
    assert refused.status_code == 412 and refused.json()["type"] == "urn:udr:problem:version-mismatch"
    assert refused.headers["X-Udr-Index-Version"] == retriever.index_version
    assert service.get("/v1/info", headers={"X-Udr-Index-Version": "other"}).status_code == 412


def test_the_encoder_is_listed_as_a_model(service: TestClient) -> None:
    (model,) = service.get("/v1/models").json()["data"]
    assert (model["id"], model["object"], model["owned_by"]) == ("fake-hash", "model", "udr") and model["created"] > 1e9
    assert service.get("/v1/models/fake-hash").json() == model
    unknown = service.get("/v1/models/gpt")
    assert unknown.status_code == 404 and unknown.json()["error"]["code"] == "unknown-task"


class Source:
    """The index, opened with a cache before the encoder."""

    def __init__(self, index: Path, encoder: HashEncoder) -> None:
        self.index, self.encoder = index, encoder

    def current(self) -> str:
        return read_current(self.index)

    def load(self, metrics: Metrics, name: str | None = None) -> ActiveVersion:
        encoder = CachingEncoder(self.encoder, 64, metrics)
        return ActiveVersion(Retriever.of_version(open_version(self.index), encoder=encoder), Words())


def test_readiness_is_found_out_past_the_cache_at_most_once_a_second(
    index: Path, encoder: HashEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TestClient(create_app(Source(index, encoder), Settings())) as client:
        while client.get("/readyz").status_code != 200:
            time.sleep(0.01)
        encoded = len(encoder.queries)
        for _ in range(5):
            assert client.get("/readyz").status_code == 200
        assert len(encoder.queries) == encoded
        monkeypatch.setattr(encoder, "encode_queries", lambda texts: 1 / 0)
        time.sleep(1.1)
        assert client.get("/readyz").status_code == 503
