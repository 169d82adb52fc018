"""``udr serve --workers 2``: two processes that answer, reload, count and end as one."""

import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.fakes import write_mapped_notes
from tests.service.observability.test_reports import read
from tests.service.running import serving
from tests.service.server.test_run import CERTIFICATES
from tests.upstreams import STREAM, Exchange, Upstream, completes, upstream
from tests.waiting import until
from udr import Client
from udr_index.build import BuildConfig, build
from udr_index.versions import publish
from udr_service import Settings, run
from udr_service.auth import Scope, append, new_key

BODY: dict[str, Any] = {"scope": "all", "input": "a dull day", "k": 1}


@pytest.fixture(scope="module")
def versions(tiny: Path, collection: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """An index of two versions, the first of which is published, and their names."""
    copy = shutil.copytree(tiny, tmp_path_factory.mktemp("workers") / "index")
    names = [(copy / "CURRENT").read_text().strip()]
    (model,) = copy.glob("versions/*/model")
    names.append(build(BuildConfig(tasks=collection, out=copy, model=str(model), pool=5, device="cpu")).version)
    publish(copy, names[0])
    return copy, names


Service = tuple["subprocess.Popen[str]", str]


@pytest.fixture(scope="module")
def model() -> Iterator[Upstream]:
    with upstream() as fake:
        yield fake


@pytest.fixture(scope="module")
def service(versions: tuple[Path, list[str]], model: Upstream) -> Iterator[Service]:
    options = ("--workers", "2", "--upstream", model.url)
    # Else numpy's import starts threads, which end before a fork.
    variables = {"OPENBLAS_NUM_THREADS": "1", "UDR_UPSTREAM_REQUESTS": "4"}
    with serving(str(versions[0]), *options, **variables) as served:
        yield served


def workers(process: "subprocess.Popen[str]") -> list[int]:
    """The processes of the workers."""
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def each(address: str, path: str, times: int = 20) -> list[Any]:
    """What new connections are answered, which go to all workers."""
    return [httpx2.get(f"{address}{path}", timeout=30).json() for _ in range(times)]


def metric(address: str, name: str, **labels: str) -> float:
    content = httpx2.get(f"{address}/metrics", timeout=30).content
    return read(content).get((name, tuple(sorted(labels.items()))), 0.0)


def test_any_worker_takes_a_write_and_all_see_it_when_it_is_acknowledged(service: Service) -> None:
    _, address = service
    until(lambda: all(answer == {"status": "ready", "workers": 2} for answer in each(address, "/readyz", 4)))
    for number in range(12):
        path = f"/v1/tasks/notes/demonstrations/w{number}"
        row = {"input": {"text": f"a written day {number}"}, "target": "glad"}
        # Each on a new connection, so that both workers write.
        put = httpx2.put(f"{address}{path}", json=row, timeout=30)
        assert (put.status_code, put.headers["X-Udr-Overlay-Position"]) == (201, str(2 * number + 1))
        assert {answer["target"] for answer in each(address, path, 4)} == {"glad"}
        assert httpx2.delete(f"{address}{path}", timeout=30).status_code == 204
        assert {answer["status"] for answer in each(address, path, 4)} == {404}


def test_all_workers_add_to_the_counts_and_take_outcomes_of_any_prompt(service: Service) -> None:
    _, address = service

    def shown() -> int:
        rows = httpx2.get(f"{address}/v1/tasks/notes/demonstrations?counts=true", timeout=30).json()["demonstrations"]
        return sum(row["shown"] for row in rows)

    body = {"task": "notes", "input": "a dull day", "k": 2, "budget": 200}
    before = shown()
    # Each on a new connection, as in any test here.
    asked = [httpx2.post(f"{address}/v1/prompt", json=body, timeout=30).json()["prompt_id"] for _ in range(8)]

    def tell(prompt_id: str) -> int:
        outcome = {"prompt_id": prompt_id, "score": 1}
        return httpx2.post(f"{address}/v1/outcomes", json=outcome, timeout=30).status_code

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(tell, asked)) == {200}
    until(lambda: shown() == before + 16)


def chat(address: str, **options: Any) -> httpx2.Response:
    """The answer to a chat with demonstrations, on a new connection."""
    body = {"model": "notes@fake", "messages": [{"role": "user", "content": "a dull day"}], "udr": {"k": 2}, **options}
    return httpx2.post(f"{address}/v1/chat/completions", json=body, timeout=30)


def test_every_worker_is_a_gateway_and_they_ask_the_upstream_no_more_than_allowed_together(
    service: Service, model: Upstream
) -> None:
    _, address = service
    go = threading.Event()

    def waits(exchange: Exchange) -> None:
        assert go.wait(20)
        completes(exchange)

    model.behave = waits
    with ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(chat, address) for _ in range(4)]
        until(lambda: len(model.requests) == 4)
        refused = [chat(address) for _ in range(4)]
        go.set()
        answers = [future.result() for future in futures]
    assert {(each.status_code, each.json()["error"]["code"]) for each in refused} == {(503, "busy")}
    assert {each.json()["choices"][0]["message"]["content"] for each in answers} == {"sad"}
    assert len({each.headers["X-Udr-Demonstrations"] for each in answers}) == 1
    # Two demonstrations of two turns, and the query.
    assert {len(each.body["messages"]) for each in model.requests} == {5}
    assert [chat(address, stream=True).content for _ in range(4)] == [b"".join(STREAM)] * 4


def reload(address: str) -> httpx2.Response:
    return httpx2.post(f"{address}/v1/admin/reload", timeout=30)


def test_the_first_process_opens_the_encoder_and_starts_no_thread(service: Service) -> None:
    process, _ = service
    assert "graph.onnx.data" in Path(f"/proc/{process.pid}/maps").read_text()
    assert len(list(Path(f"/proc/{process.pid}/task").iterdir())) == 1


def test_every_worker_answers_and_says_how_many_there_are(service: Service) -> None:
    process, address = service
    assert len(workers(process)) == 2
    until(lambda: all(answer == {"status": "ready", "workers": 2} for answer in each(address, "/readyz", 4)))
    assert {answer["workers"] for answer in each(address, "/v1/info", 4)} == {2}


def test_metrics_of_any_worker_are_those_of_all(service: Service) -> None:
    _, address = service
    labels = {"route": "/v1/retrieve", "status": "200"}
    before = metric(address, "udr_requests_total", **labels)
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(httpx2.post, f"{address}/v1/retrieve", json=BODY, timeout=30) for _ in range(40)]
        assert {future.result().status_code for future in asked} == {200}
    until(lambda: {metric(address, "udr_requests_total", **labels) for _ in range(8)} == {before + 40})
    assert metric(address, "udr_workers") == 2


def shares_of(process: "subprocess.Popen[str]", address: str, connections: int = 20) -> list[int]:
    """How many of some open connections each worker has."""

    def sockets() -> list[int]:
        files = [list(Path(f"/proc/{pid}/fd").iterdir()) for pid in workers(process)]
        return [sum("socket:" in os.readlink(file) for file in own if file.is_symlink()) for own in files]

    before = sockets()
    with ExitStack() as stack:
        for _ in range(connections):
            client = stack.enter_context(httpx2.Client(base_url=address, timeout=60))
            assert client.get("/livez").status_code == 200
        return [now - then for now, then in zip(sockets(), before, strict=True)]


def test_a_connection_goes_to_the_worker_with_fewer(service: Service) -> None:
    # Half of them each, unless the machine gives one of them no time.
    assert min(shares_of(*service)) >= 5


def test_a_reload_is_one_for_all_workers_or_for_none(service: Service, versions: tuple[Path, list[str]]) -> None:
    (process, address), (index, names) = service, versions
    for name in (names[1], names[0]):
        publish(index, name)
        assert reload(address).json()["index_version"] == name
        assert {answer["index_version"] for answer in each(address, "/v1/info")} == {name}
    publish(index, names[1])
    process.send_signal(signal.SIGHUP)
    until(lambda: {answer["index_version"] for answer in each(address, "/v1/info")} == {names[1]})
    # A reload by a worker's own request, by SIGHUP, or in vain, counts once.
    until(lambda: metric(address, "udr_reloads_total", outcome="switched") == 3)
    current = (index / "CURRENT").read_text()
    (index / "CURRENT").write_text("damaged")
    refused = reload(address)
    assert refused.status_code == 409 and f"version {names[1]} still answers" in refused.json()["detail"]
    assert {answer["index_version"] for answer in each(address, "/v1/info")} == {names[1]}
    (index / "CURRENT").write_text(current)


def test_damage_is_seen_once_and_known_to_all(service: Service, versions: tuple[Path, list[str]]) -> None:
    (_, address), (index, _) = service, versions
    version = httpx2.get(f"{address}/v1/info").json()["index_version"]
    path = index / "versions" / version / "manifest.json"
    vectors = next(file for file in path.parent.rglob("*.npy"))
    content = vectors.read_bytes()
    stat = vectors.stat()
    vectors.write_bytes(content[:-1])
    until(lambda: Counter(each_status(address)) == {503: 20})
    vectors.write_bytes(content)
    os.utime(vectors, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    until(lambda: Counter(each_status(address)) == {200: 20})


def each_status(address: str) -> list[int]:
    return [httpx2.post(f"{address}/v1/retrieve", json=BODY, timeout=30).status_code for _ in range(20)]


def test_the_files_of_the_index_are_mapped_once_for_all_and_what_is_written_last_is_mirrored(
    versions: tuple[Path, list[str]], tmp_path: Path
) -> None:
    write_mapped_notes(tmp_path / "tasks")
    model = versions[0] / "versions" / versions[1][0] / "model"
    build(BuildConfig(tasks=tmp_path / "tasks", out=tmp_path / "index", model=str(model), bm25=True, device="cpu"))
    options = ["--workers", "2", "--mirror", f"file://{tmp_path}/store"]
    with serving(str(tmp_path / "index"), *options) as (process, address):
        for pid in workers(process):
            smaps = Path(f"/proc/{pid}/smaps").read_text()
            mapped = re.findall(r"/versions/\S+\.npy\n(.*?)VmFlags", smaps, re.DOTALL)
            assert mapped and all("Private_Dirty:         0 kB" in part for part in mapped)
        row = {"input": {"text": "a grey friday"}, "target": "sad"}
        assert httpx2.put(f"{address}/v1/tasks/notes/demonstrations/new", json=row).status_code == 201
        process.terminate()
        assert process.wait(20) == 0
    # A mirror has what was written last, whichever worker wrote it.
    assert (tmp_path / "store/live/log").read_bytes() == (tmp_path / "index/live/log").read_bytes()


def test_a_worker_that_dies_is_replaced(service: Service) -> None:
    process, address = service
    before, restarts = workers(process), metric(address, "udr_worker_restarts_total")
    counted = metric(address, "udr_requests_total", route="/v1/retrieve", status="200")
    time.sleep(1.5)
    os.kill(before[1], signal.SIGKILL)
    # The other one answers meanwhile.
    assert httpx2.post(f"{address}/v1/retrieve", json=BODY, timeout=30).status_code == 200
    until(
        lambda: each(address, "/readyz", 1) == [{"status": "ready", "workers": 2}] and before[1] not in workers(process)
    )
    assert metric(address, "udr_worker_restarts_total") == restarts + 1
    assert min(shares_of(process, address)) >= 5
    # What it had counted still counts; workers report to each other now and then.
    until(lambda: metric(address, "udr_requests_total", route="/v1/retrieve", status="200") > counted)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert re.search(r"worker \d \(process \d+\) ended by signal SIGKILL; replaced in 0\.1 s", errors)


def test_a_worker_is_replaced_although_the_version_that_answers_was_pruned(
    versions: tuple[Path, list[str]], tmp_path: Path
) -> None:
    index, (first, second) = shutil.copytree(versions[0], tmp_path / "index"), versions[1]
    publish(index, first)
    with serving(str(index), "--workers", "2") as (process, address):
        publish(index, second)
        shutil.rmtree(index / "versions" / first)
        killed = workers(process)[0]
        os.kill(killed, signal.SIGKILL)
        until(lambda: killed not in workers(process) and len(workers(process)) == 2)
        until(lambda: all(answer["index_version"] == second for answer in each(address, "/v1/info", 8)))
        until(lambda: all(answer == {"status": "ready", "workers": 2} for answer in each(address, "/readyz", 8)))


def test_a_worker_that_is_replaced_has_the_keys_and_the_certificate_of_the_others(tiny: Path, tmp_path: Path) -> None:
    keys, certificate = tmp_path / "keys.toml", tmp_path / "tls.pem"
    shutil.copy(CERTIFICATES / "first.pem", certificate)
    (first, entry), (second, later) = (new_key(name, Scope.ADMIN) for name in ("first", "second"))
    append(keys, entry)
    options = ("--workers", "2", "--keys", str(keys), "--tls-cert", str(certificate), "--tls-key", str(certificate))
    index = shutil.copytree(tiny, tmp_path / "index")
    with serving(str(index), *options) as (process, address):

        def each(path: str, key: str) -> list[httpx2.Response]:
            headers = {"X-Api-Key": key}
            return [httpx2.get(f"{address}{path}", headers=headers, verify=False, timeout=30) for _ in range(8)]

        def replaced() -> None:
            killed = workers(process)[0]
            os.kill(killed, signal.SIGKILL)
            ready = {"status": "ready", "workers": 2}
            until(lambda: killed not in workers(process) and all(each.json() == ready for each in each("/readyz", "")))

        append(keys, later)
        certificate.write_text("damaged")
        replaced()
        assert {answer.status_code for answer in each("/v1/info", first)} == {200}
        assert {answer.status_code for answer in each("/v1/info", second)} == {401}

        shutil.copy(CERTIFICATES / "second.pem", certificate)
        reloaded = httpx2.post(f"{address}/v1/admin/reload", headers={"X-Api-Key": first}, verify=False, timeout=30)
        assert reloaded.status_code == 200
        keys.write_text("damaged")
        replaced()
        assert {answer.status_code for answer in each("/v1/info", second)} == {200}
        port = int(address.rpartition(":")[2])
        served = {ssl.get_server_certificate(("127.0.0.1", port)) for _ in range(8)}
        assert len(served) == 1 and served.pop() in certificate.read_text()

        # A revoked key ends at all workers, although the version cannot be opened.
        keys.write_text(later.to_toml())
        (index / "CURRENT").write_text("damaged")
        refused = httpx2.post(f"{address}/v1/admin/reload", headers={"X-Api-Key": second}, verify=False, timeout=30)
        assert refused.status_code == 409 and "the keys are those that their file has now" in refused.json()["detail"]
        assert {answer.status_code for answer in each("/v1/info", first)} == {401}


def test_a_limit_of_a_client_is_that_of_all_workers_and_workers_end_with_the_first_process(
    tiny: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.toml"
    key, entry = new_key("app", Scope.READ)
    append(keys, entry.model_copy(update={"requests_per_second": 2.0}))
    with serving(str(tiny), "--workers", "2", "--keys", str(keys)) as (process, address):
        headers = {"X-Api-Key": key}
        started = time.monotonic()
        answers = [
            httpx2.post(f"{address}/v1/retrieve", json=BODY, headers=headers, timeout=30).status_code for _ in range(30)
        ]
        assert 2 <= answers.count(200) <= 2 + 2 * (time.monotonic() - started) + 1 and set(answers) == {200, 429}
        pids = workers(process)
        process.kill()
        process.wait()
        until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in pids))


def test_no_accepted_request_is_lost_when_all_workers_end(tiny: Path) -> None:
    statuses, errors = list[int](), list[BaseException]()
    with serving(str(tiny), "--workers", "2", "--linger-seconds", "1") as (process, address):

        def ask() -> None:
            with httpx2.Client(base_url=address, timeout=30) as client:
                while True:
                    try:
                        statuses.append(client.post("/v1/retrieve", json=BODY).status_code)
                    except httpx2.ConnectError:
                        return
                    except Exception as error:
                        errors.append(error)
                        return

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        until(lambda: len(statuses) > 50)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        for thread in threads:
            thread.join(30)
    assert (process.returncode, errors, set(statuses)) == (0, [], {200})


def test_an_index_that_cannot_be_loaded_ends_the_service(tiny: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny, tmp_path / "index")
    (database,) = copy.glob("versions/*/demonstrations.sqlite")
    database.write_bytes(b"x" * database.stat().st_size)
    with (
        pytest.raises(AssertionError, match=r"demonstrations\.sqlite"),
        serving(str(copy), "--workers", "2"),
    ):
        pass


@pytest.mark.slow
def test_no_call_fails_while_workers_are_killed_and_versions_change(versions: tuple[Path, list[str]]) -> None:
    index, names = versions
    asked, failed, stopping = [0], list[BaseException](), threading.Event()

    def ask(address: str, number: int) -> None:
        with Client(address, timeout=30) as client:
            while not stopping.is_set():
                try:
                    client.retrieve("notes", f"{number} {asked[0]}", 2)
                    asked[0] += 1
                except Exception as error:
                    failed.append(error)

    with serving(str(index), "--workers", "2") as (process, address):
        with ThreadPoolExecutor(4) as threads:
            for number in range(4):
                threads.submit(ask, address, number)
            for turn in range(20):
                publish(index, names[turn % 2])
                assert reload(address).is_success
                if turn % 4 == 3:
                    os.kill(workers(process)[turn // 4 % 2], signal.SIGKILL)
                    until(lambda: len(workers(process)) == 2)
            stopping.set()
        assert failed == [] and asked[0] > 100


def test_the_number_of_workers_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers"):
        run(tmp_path, Settings(workers=0))


LOADING = """
import socket, time
from udr.cli import main
from udr_service import Settings
from udr_service.serving import SharedShares
from udr_service.server.supervisor import Supervisor
listener = socket.create_server(("127.0.0.1", 0))
Supervisor(Settings(workers=2), listener, SharedShares(2), lambda member: time.sleep(3), None).run()
"""


def test_workers_that_load_for_long_are_counted() -> None:
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True, env=environment)
    assert "udr: loading in 2 workers: 0 ready, 2 s\n" in done.stderr
    assert "ended with status 0 before the index was loaded" in done.stderr
