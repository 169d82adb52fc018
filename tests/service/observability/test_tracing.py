"""OpenTelemetry: off by default; spans and metrics go to a collector, without queries and keys."""

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
from tests.service.running import serving
from udr.errors import MissingExtraError
from udr.retrieval import Retriever
from udr_service import Settings, create_app
from udr_service.auth import Scope, append, new_key

SECRET = "wombat"


@contextmanager
def collector() -> Iterator[tuple[str, dict[str, bytes]]]:
    """Receive exports; yields the address, and the bodies by path."""
    bodies: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            bodies[self.path] = bodies.get(self.path, b"") + body
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", bodies
        finally:
            server.shutdown()
            thread.join()


def test_spans_and_metrics_are_exported_without_queries_and_keys(tiny: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    key, entry = new_key("app", Scope.READ)
    append(keys, entry)
    body = {"task": "reviews", "input": {"thing": "chair", "text": SECRET}, "k": 2}
    headers = {"Authorization": f"Bearer {key}"}
    with collector() as (endpoint, exports):
        environment = {"UDR_TELEMETRY": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "UDR_KEYS": str(keys)}
        with serving(str(tiny), **environment) as (process, address):
            with httpx2.Client(base_url=address, timeout=30) as client:
                answers = [
                    client.post("/v1/retrieve", json=body, headers=headers),
                    client.post("/v1/retrieve", json={**body, "k": SECRET}, headers=headers),
                    client.post("/v1/retrieve", json=body),
                    client.get(f"/v1/tasks?{SECRET}={key}", headers=headers),
                    client.get(f"/v1/tasks/reviews/demonstrations/{SECRET}", headers=headers),
                    client.get(f"/{SECRET}", headers=headers),
                ]
            assert [answer.status_code for answer in answers] == [200, 422, 401, 422, 404, 404]
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
    assert exports.keys() == {"/v1/traces", "/v1/metrics"}
    spans = exports["/v1/traces"]
    assert b"/v1/retrieve" in spans and b"http.response.status_code" in spans
    assert b"http.server.request.duration" in exports["/v1/metrics"]
    for secret in (SECRET, key):
        assert all(secret.encode() not in export for export in exports.values())


def test_telemetry_needs_the_exporter(retriever: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("udr_service.observability.tracing.find_spec", lambda _name: None)

    with pytest.raises(MissingExtraError, match=r"OpenTelemetry's exporter is not installed; .*\[telemetry\]"):
        create_app(retriever, Settings(telemetry=True), Words())
