"""OpenTelemetry: off unless asked for; then spans and metrics go to a collector, without texts and keys."""

import gzip
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest

from tests.service.conftest import Words
from tests.service.process import serving
from udr.errors import MissingExtraError
from udr.retrieval import Retriever
from udr_service import Settings, create_app
from udr_service.auth import Scope, append, new_key

TEXT, OTHER = "wombat-in-the-text", "wombat-in-a-wrong-field"
QUERY, PATH = "wombat-in-the-query", "wombat-in-the-path"


@contextmanager
def collector() -> Iterator[tuple[str, dict[str, bytes]]]:
    """Take what is exported; yields the address, and what came by path."""
    came: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            came[self.path] = came.get(self.path, b"") + body
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", came
        finally:
            server.shutdown()
            thread.join()


def asked(address: str, key: str) -> list[int]:
    """Return the statuses of requests with texts and keys where these belong, and where they do not."""
    body = {"task": "reviews", "input": {"thing": "chair", "text": TEXT}, "k": 2}
    headers = {"Authorization": f"Bearer {key}"}
    with httpx2.Client(base_url=address, timeout=30) as client:
        answers = [
            client.post("/v1/retrieve", json=body, headers=headers),
            client.post("/v1/retrieve", json={**body, "k": OTHER}, headers=headers),
            client.post("/v1/retrieve", json=body),
            client.get(f"/v1/tasks?q={QUERY}&api_key={key}", headers=headers),
            client.get(f"/v1/tasks/reviews/demonstrations/{PATH}", headers=headers),
            client.get(f"/{PATH}", headers=headers),
        ]
    return [answer.status_code for answer in answers]


def test_spans_and_metrics_are_exported_without_texts_and_keys(tiny: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    key, entry = new_key("app", Scope.READ)
    append(keys, entry)
    with collector() as (target, came):
        told = {"UDR_TELEMETRY": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": target, "UDR_KEYS": str(keys)}
        with serving(str(tiny), environment=told) as (process, address):
            assert asked(address, key) == [200, 422, 401, 200, 404, 404]
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
    assert came.keys() == {"/v1/traces", "/v1/metrics"}
    spans = came["/v1/traces"]
    assert b"/v1/retrieve" in spans and b"http.response.status_code" in spans
    assert b"http.server.request.duration" in came["/v1/metrics"]
    for secret in (TEXT, OTHER, QUERY, PATH, key):
        assert all(secret.encode() not in body for body in came.values())


def test_nothing_is_exported_unless_asked_for(tiny: Path) -> None:
    with collector() as (target, came):
        told = {"OTEL_EXPORTER_OTLP_ENDPOINT": target, "FASTAPI_OTEL_AUTO_CONFIGURE": "true"}
        with serving(str(tiny), environment=told) as (process, address):
            assert httpx2.get(f"{address}/v1/tasks", timeout=30).status_code == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
    assert came == {}


def test_what_exports_must_be_installed(retriever: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("udr_service.observability.tracing.find_spec", lambda _name: None)

    with pytest.raises(MissingExtraError, match=r"OpenTelemetry's exporter is not installed; .*'udr-icl\[telemetry\]'"):
        create_app(retriever, Settings(telemetry=True), Words())
