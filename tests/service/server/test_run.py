"""``udr serve``: one run in a process of its own; signals and addresses in this one."""

import gc
import itertools
import json
import os
import re
import shutil
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.service.observability.test_tracing import collector
from tests.service.running import serving
from udr.client import Client
from udr.errors import ConfigError, UdrError, VerificationError
from udr.models import Engine
from udr.retrieval import Retriever
from udr_index.build import BuildConfig, build
from udr_service import ListenError, Settings, listening, run

CERTIFICATES = Path(__file__).parents[2] / "fixtures/tls"
"""Two files with a certificate and its private key each, for tests only."""


def test_serve_answers_until_sigterm_and_exports_nothing(tiny: Path) -> None:
    with collector() as (endpoint, exports):
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "FASTAPI_OTEL_AUTO_CONFIGURE": "true"}
        # Only this process encodes with torch, which takes ten seconds to import.
        with serving(str(tiny), **environment) as (process, address):
            with Client(address) as client, Retriever.open(tiny, device="cpu", engine="torch") as retriever:
                assert client.ready()
                assert client.info()["engine"] == "onnx"
                query = {"thing": "chair", "text": 'fine "{thing}" 🙂 <s> [SEP]\n\t\\'}
                assert client.retrieve("reviews", query, 4) == retriever.retrieve("reviews", query, 4)
                prompt = client.prompt("reviews", query, k=4, budget=1000)
                assert prompt.text is not None and prompt.text.endswith(f"\nReview: {query['text']}\nMood:")
                # The encoder's tokenizer counts bytes, and a BOS before them; the <s> in the data is one token to it.
                assert prompt.tokens == len(prompt.text.replace("<s>", "s").encode()) + 1
            # More than the kernel buffers: the answer must arrive although the body is not read.
            large = json.dumps({"task": "notes", "input": "a" * 20_000_000}).encode()
            answer = httpx2.post(f"{address}/v1/retrieve", content=large, headers={"Content-Type": "application/json"})
            assert answer.json()["type"] == "urn:udr:problem:body-too-large"
            assert answer.headers.get("Server") is None
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors, exports) == (0, "", "", {})


def run_while(client: Callable[[httpx2.Client], None], index: Path, **settings: Any) -> None:
    """Run the service in this process and a client in a thread, which ends the service by signals."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"{'https' if 'tls_cert' in settings else 'http'}://127.0.0.1:{port}"

    def call() -> None:
        try:
            with httpx2.Client(base_url=url, timeout=30, verify=False) as http:
                while not is_ready(http):
                    time.sleep(0.01)
                client(http)
        except BaseException:
            stop(signal.SIGINT)
            raise

    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(call)
        run(index, Settings(port=port, device="cpu", engine=Engine.TORCH, **settings))
        future.result()
    # The service froze what is its own. What the tests import stays frozen.
    gc.unfreeze()
    gc.freeze()


def stop(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def is_ready(client: httpx2.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx2.ConnectError:
        return False


def test_no_accepted_request_is_lost_at_shutdown(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each request of busy clients is answered or finds no service; none is broken off."""
    statuses, errors = list[int](), list[BaseException | None]()
    stopping = threading.Event()

    def ask(address: str, number: int) -> None:
        with httpx2.Client(base_url=address, timeout=30) as client:
            for turn in itertools.count():
                body = {"task": "notes", "input": f"{number} {turn}", "k": 2}
                try:
                    statuses.append(client.post("/v1/retrieve", json=body).status_code)
                except httpx2.ConnectError:
                    return
                if turn == 3:
                    stopping.wait(30)

    def clients(http: httpx2.Client) -> None:
        with ThreadPoolExecutor(8) as threads:
            asking = [threads.submit(ask, str(http.base_url), number) for number in range(8)]
            while len(statuses) < 32:
                time.sleep(0.01)
            stopping.set()
            stop(signal.SIGTERM)
            errors.extend(future.exception() for future in asking)

    run_while(clients, tiny, linger_seconds=1.5)
    assert errors == [None] * 8 and len(statuses) > 32 and set(statuses) == {200}
    loading, *still, ready = capsys.readouterr().err.splitlines()
    assert loading == f"udr: loading {tiny}..." and all(line.startswith(f"{loading} ") for line in still)
    assert re.fullmatch(r"udr: serving 3 tasks, 62 demonstrations at \S+", ready)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be told to begin no new connections")
def test_no_connection_begins_just_before_the_port_closes(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be reset: nobody looks again."""
    begun, plain_close = list[bool](), socket.socket.close

    def close(self: socket.socket) -> None:
        if self.fileno() >= 0 and self.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            begun.append(begins(self.getsockname()))
        plain_close(self)

    def begins(address: tuple[str, int]) -> bool:
        with socket.socket() as late:
            late.settimeout(0.1)
            return late.connect_ex(address) == 0

    def client(http: httpx2.Client) -> None:
        monkeypatch.setattr(socket.socket, "close", close)
        stop(signal.SIGTERM)

    run_while(client, tiny)
    assert begun == [False]


def test_it_answers_but_is_not_ready_while_it_lingers(tiny: Path) -> None:
    def client(http: httpx2.Client) -> None:
        stop(signal.SIGINT)
        while is_ready(http):
            time.sleep(0.01)
        ready = http.get("/readyz")
        assert (ready.status_code, ready.headers["Connection"]) == (503, "close")
        assert http.post("/v1/retrieve", json={"scope": "all", "input": "x", "k": 1}).status_code == 200
        assert http.get("/livez").status_code == 200
        # A second signal ends it at once.
        stop(signal.SIGINT)

    run_while(client, tiny, linger_seconds=30)


def test_sighup_reloads(tiny: Path, tmp_path: Path, collection: Path) -> None:
    copy = shutil.copytree(tiny, tmp_path / "index")

    def client(http: httpx2.Client) -> None:
        before = http.get("/v1/info").json()["index_version"]
        (model,) = copy.glob("versions/*/model")
        after = build(BuildConfig(tasks=collection, out=copy, model=str(model), pool=5)).version
        stop(signal.SIGHUP)
        while http.get("/v1/info").json()["index_version"] == before:
            time.sleep(0.01)
        assert http.get("/v1/info").json()["index_version"] == after
        (copy / "CURRENT").write_text("damaged", "utf-8")
        stop(signal.SIGHUP)
        while 'udr_reloads_total{outcome="refused"} 1.0' not in http.get("/metrics").text:
            time.sleep(0.01)
        assert http.post("/v1/retrieve", json={"scope": "all", "input": "x", "k": 1}).status_code == 200
        stop(signal.SIGINT)

    run_while(client, copy)


def test_certificates_are_read_again(tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tls.pem"

    def served(address: tuple[str, int]) -> str:
        """The certificate that a new connection gets."""
        return ssl.get_server_certificate(address)

    def client(http: httpx2.Client) -> None:
        address = (http.base_url.host, http.base_url.port or 0)
        first = served(address)
        # A client that never completes the handshake delays no others, not even at the end.
        with socket.create_connection(address):
            shutil.copy(CERTIFICATES / "second.pem", file)
            assert http.post("/v1/admin/reload").status_code == 200
            second = served(address)
            assert second != first and second in file.read_text()
            file.write_text("damaged")
            assert http.post("/v1/admin/reload").status_code == 409
            assert served(address) == second
            stop(signal.SIGINT)

    shutil.copy(CERTIFICATES / "first.pem", file)
    run_while(client, tiny, tls_cert=file, tls_key=file)
    # Connections end without an error in asyncio, and so the service does, too, without waiting for them in vain.
    log = "".join(capfd.readouterr())
    assert "reload refused" in log and "Exception in callback" not in log and "graceful shutdown exceeded" not in log


def test_open_addresses_need_keys_or_permission(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="without keys, other machines could use"):
        run(tmp_path, Settings(host="0.0.0.0", port=0))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(UdrError, match="no index here"):
        run(tmp_path, Settings(host="0.0.0.0", port=0, insecure_no_keys=True))
    assert signal.getsignal(signal.SIGTERM) is before


def test_damaged_weights_end_the_service(tiny: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny, tmp_path / "index")
    (weights,) = copy.glob("versions/*/model/model.safetensors")
    weights.write_bytes(b"x" * weights.stat().st_size)
    with pytest.raises(VerificationError, match=r"model\.safetensors"):
        run(copy, Settings(port=0, engine=Engine.TORCH, device="cpu"))


def test_unavailable_addresses_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = f"cannot listen on 127.0.0.1, port {port}: Address already in use; choose"
        with pytest.raises(ListenError, match=message):
            run(tmp_path / "no index", Settings(port=port))
    message = r"cannot listen on 192\.0\.2\.1, port 0: .+; choose another with --host$"
    with pytest.raises(ListenError, match=message), listening("192.0.2.1", 0):
        pass


def test_answers_do_not_wait_for_delayed_acknowledgements() -> None:
    """Without TCP_NODELAY, each answer over an open connection took 44 ms; with it, /livez takes less than one."""
    with listening("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
