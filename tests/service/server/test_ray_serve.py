"""``udr serve --runner ray``: replicas behind Ray Serve answer as one process, and one of them may die."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.service.observability.test_reports import read
from tests.service.running import serving
from udr import Client
from udr_index.build import BuildConfig, build
from udr_index.versions import publish

pytest.importorskip("ray", reason="the extra ray is not installed")
pytest.importorskip("grpc_reflection", reason="the extra ray is not installed with Ray Serve")

# A cluster takes 20 seconds to start.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

INPUT: dict[str, Any] = {"task": "notes", "input": "a dull day", "k": 2}
REQUESTS: list[tuple[str, str, Any]] = [
    ("POST", "/v1/retrieve", INPUT),
    ("POST", "/v1/retrieve", {"scope": "all", "input": "is it late", "k": 5, "explain": True}),
    ("POST", "/v1/retrieve", {**INPUT, "k": 0}),
    ("POST", "/v1/retrieve/batch", {"requests": [INPUT, {**INPUT, "task": "none"}]}),
    ("POST", "/v1/prompt", {**INPUT, "budget": 200}),
    ("POST", "/v1/embeddings", {"input": "a dull day"}),
    ("GET", "/v1/tasks", None),
    ("GET", "/v1/tasks/notes/demonstrations?limit=3", None),
    ("GET", "/v1/nowhere", None),
    ("GET", "/v1/openapi.json", None),
    ("GET", "/", None),
]

Versions = tuple[Path, list[str]]
Service = tuple["subprocess.Popen[str]", str]


@pytest.fixture(scope="module")
def versions(tiny: Path, collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Versions:
    """An index of two versions, the first of which is published, and their names."""
    copy = shutil.copytree(tiny, tmp_path_factory.mktemp("replicas") / "index")
    names = [(copy / "CURRENT").read_text().strip()]
    (model,) = copy.glob("versions/*/model")
    names.append(build(BuildConfig(tasks=collection, out=copy, model=str(model), pool=5, device="cpu")).version)
    publish(copy, names[0])
    return copy, names


@pytest.fixture(scope="module")
def replicas(versions: Versions) -> Iterator[Service]:
    """Two replicas; yields the process that started them, and their address."""
    with serving(str(versions[0]), "--runner", "ray", "--replicas", "2", RAY_ADDRESS="local") as (process, address):
        yield process, address
        process.terminate()
        assert process.wait(60) == 0


def answer(client: httpx2.Client, method: str, path: str, body: Any) -> tuple[int, dict[str, str], bytes]:
    """The status, the headers and the body of an answer, without its time and its name."""
    response = client.request(method, path, json=body)
    own = {"date", "server", "server-timing", "x-request-id", "x-udr-prompt-id"}
    content = response.content
    if path == "/v1/prompt":
        content = content.replace(response.json()["prompt_id"].encode(), b"")
    return response.status_code, {k: v for k, v in response.headers.items() if k not in own}, content


def test_answers_are_those_of_one_process_byte_for_byte(versions: Versions, replicas: Service) -> None:
    with serving(str(versions[0])) as (_, address):
        with (
            httpx2.Client(base_url=address, timeout=30) as one,
            httpx2.Client(base_url=replicas[1], timeout=30) as many,
        ):
            for request in REQUESTS:
                # Twice each, since either replica may answer.
                for _ in range(2):
                    assert answer(many, *request) == answer(one, *request), request


def of_replicas(address: str, name: str) -> dict[str, dict[str, str]]:
    """The labels of a metric that is not 0, by replica."""
    series = read(httpx2.get(f"{address}/metrics", timeout=30).content)
    labels = [dict(labels) for (own, labels), value in series.items() if own == name and value]
    return {each.pop("replica"): each for each in labels}


def index_versions(address: str) -> list[str]:
    """The version that each replica answers from."""
    return [each["version"] for each in of_replicas(address, "udr_index_info").values()]


def test_a_reload_reaches_all_replicas_and_each_follows_what_is_published(
    versions: Versions, replicas: Service
) -> None:
    (index, names), (process, address) = versions, replicas
    assert index_versions(address) == [names[0]] * 2
    publish(index, names[1])
    reloaded = httpx2.post(f"{address}/v1/admin/reload", timeout=60)
    assert (reloaded.status_code, reloaded.json()["index_version"]) == (200, names[1])
    assert index_versions(address) == [names[1]] * 2
    publish(index, names[0])
    end = time.monotonic() + 30
    while index_versions(address) != [names[0]] * 2:
        assert time.monotonic() < end
        time.sleep(0.1)
    process.send_signal(signal.SIGHUP)
    assert process.stderr is not None
    assert "SIGHUP: all replicas have read keys and index again" in process.stderr.readline()


def test_a_killed_replica_costs_no_failed_request(replicas: Service) -> None:
    process, address = replicas
    before, stop, counts = processes(process), threading.Event(), list[int]()

    def ask(number: int) -> None:
        with Client(address, timeout=60) as client:
            while not stop.is_set():
                counts.append(len(client.retrieve("notes", f"a dull day {number} {len(counts)}", k=2)))

    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask, number) for number in range(4)]
        try:
            for pid in before[:1]:
                time.sleep(2)
                answered = len(counts)
                os.kill(pid, signal.SIGKILL)
                end = time.monotonic() + 60
                while len(after := set(processes(process)) - {pid}) < 2 or len(index_versions(address)) < 2:
                    assert time.monotonic() < end, after
                    time.sleep(0.2)
                time.sleep(2)
        finally:
            stop.set()
        for each in asking:
            each.result()
    assert len(before) == 2 and answered > 20 and len(counts) > answered + 20 and set(counts) == {2}


def processes(process: "subprocess.Popen[str]") -> list[int]:
    """The processes of the replicas that a process has started, by Ray's title of them."""
    found = list[int]()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes().decode(errors="replace")
            if title.startswith("ray::ServeReplica:udr") and process.pid in ancestors(int(folder.name)):
                found.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        yield pid
        # The name before it may hold anything, parentheses too.
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_while_requests_queue_there_are_more_replicas(versions: Versions) -> None:
    options = ("--runner", "ray", "--replicas", "1", "--max-replicas", "2")
    with serving(str(versions[0]), *options, RAY_ADDRESS="local", UDR_REPLICA_REQUESTS="1") as (process, address):
        assert len(index_versions(address)) == 1
        # Ray Serve waits for half a minute.
        end = time.monotonic() + 150

        def ask(number: int) -> None:
            with Client(address, timeout=60) as client:
                while time.monotonic() < end and not grown.is_set():
                    client.retrieve("notes", f"a dull day {number} {time.monotonic()}", k=2)

        grown = threading.Event()
        with ThreadPoolExecutor(8) as threads:
            asking = [threads.submit(ask, number) for number in range(8)]
            while len(index_versions(address)) == 1 and time.monotonic() < end:
                time.sleep(1)
            grown.set()
        for each in asking:
            each.result()
        assert len(index_versions(address)) == 2
        process.terminate()
        assert process.wait(60) == 0
