"""The servers that ``service.py`` measures, each as its own process."""

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import UDR
from service_made_up import request_of

_TIMEOUT_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Server:
    """A server on this machine.

    Attributes:
        port: its port.
        process: its process.
        cold_seconds: from the start of the process until it was ready.
    """

    port: int
    process: "subprocess.Popen[bytes]"
    cold_seconds: float

    @property
    def resident_mib(self) -> float:
        """Its current resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("utf-8")
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert match is not None
        return int(match[1]) / 1024

    def post(self, path: str, body: object = None) -> Any:  # noqa: ANN401
        """Return the answer to a request, which must have status 200."""
        status, content = _ask(self.port, "POST", path, body)
        if status != 200:
            raise RuntimeError(f"{path} returned {status}: {content.decode()}")
        return json.loads(content)

    def text(self, path: str) -> str:
        """Return the answer to a GET request, which must have status 200."""
        status, content = _ask(self.port, "GET", path)
        if status != 200:
            raise RuntimeError(f"{path} returned {status}: {content.decode()}")
        return content.decode()

    def get(self, path: str) -> Any:  # noqa: ANN401
        """Return the JSON of the answer to a GET request."""
        return json.loads(self.text(path))


@contextmanager
def serving(
    index: Path, command: Sequence[str] = (UDR, "serve"), *, device: str = "cpu", **settings: str
) -> Iterator[Server]:
    """Run ``udr serve`` until the block ends.

    Args:
        index: the index directory.
        command: the command before the index and the options.
        device: where it encodes and searches.
        settings: more environment variables.
    """
    port = _free_port()
    options = [str(index), "--device", device, "--port", str(port)]
    with _running([*command, *options], port, lambda: _ask(port, "GET", "/readyz")[0] == 200, settings) as server:
        yield server


@contextmanager
def plain(index: Path) -> Iterator[Server]:
    """Run ``service_plain.py`` until the block ends."""
    port = _free_port()
    command = [sys.executable, str(Path(__file__).with_name("service_plain.py")), str(index), str(port)]
    with _running(command, port, lambda: _ask(port, "POST", "/v1/retrieve", request_of(0))[0] == 200, {}) as server:
        yield server


@contextmanager
def _running(
    command: Sequence[str], port: int, ready: Callable[[], bool], settings: dict[str, str]
) -> Iterator[Server]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **settings}
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment)
    try:
        while not _succeeds(ready):
            if process.poll() is not None or time.perf_counter() - started > _TIMEOUT_SECONDS:
                raise RuntimeError(f"{' '.join(command)} did not start")
            time.sleep(0.02)
        yield Server(port, process, time.perf_counter() - started)
    finally:
        process.terminate()
        process.wait()


def _succeeds(ready: Callable[[], bool]) -> bool:
    try:
        return ready()
    except ConnectionRefusedError:
        return False


def _ask(port: int, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)) as connection:
        connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port
