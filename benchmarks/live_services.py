"""Two parts of ``live.py``: writes to a service, and what they cost its searches."""

import http.client
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from live_made_up import TASK, pool, request_of, written
from measuring import median, ratios, seconds
from service_load import Clients, Load
from service_running import Server, serving

CLIENTS = 64

_PATH = f"/v1/tasks/{TASK}/demonstrations"


def writes(folder: Path, quick: bool) -> dict[str, object]:
    """Put rows by one client and by many, on disk and in the system's memory, and look for each."""
    rounds, single, several = (1, 20, 2 * CLIENTS) if quick else (7, 200, 32 * CLIENTS)
    index = pool(folder, 1_000 if quick else 10_000)
    rates: dict[str, list[float]] = {}
    number = lost = 0
    disk, system = (_copy(index, folder / f"index-{name}") for name in ("disk", "system"))
    with (
        serving(disk, UDR_DURABILITY="disk") as first,
        serving(system, UDR_DURABILITY="system") as second,
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as clients,
    ):
        for turn in range(rounds + 1):
            for name, server in (("disk", first), ("system", second)):
                for count, writers in ((single, 1), (several, CLIENTS)):
                    numbers = range(number, number := number + count)
                    taken = clients.submit(_put, server.port, numbers, writers, False).result()[0]
                    if turn:
                        # The first turn is a warm-up.
                        rates.setdefault(f"{name}_puts_a_second_by_{writers}", []).append(count / taken)
        for writers in (1, CLIENTS):
            numbers = range(number, number := number + (single if writers == 1 else several // 4))
            lost += clients.submit(_put, first.port, numbers, writers, True).result()[1]
        log = (disk / "live" / "log").stat().st_size
    syncs = [_syncs_a_second(folder / "synced", 50 if quick else 500) for _ in range(3)]
    return {
        **{name: median(values, 1) for name, values in rates.items()},
        "syncs_a_second": median(syncs, 1),
        "puts_by_1_beside_syncs": median([rate / median(syncs) for rate in rates["disk_puts_a_second_by_1"]]),
        "by_64_beside_1": median(ratios(rates["disk_puts_a_second_by_64"], rates["disk_puts_a_second_by_1"])),
        "acknowledged_but_not_found_by_the_next_request": lost,
        "bytes_of_the_log_a_put": round(log / (number // 2)),
    }


def overlay(folder: Path, quick: bool) -> dict[str, object]:
    """Compare the rate at 64 clients with and without changes on top of the version."""
    rounds, size, rows = (2, 4 * CLIENTS, 2_000) if quick else (9, 16 * CLIENTS, 100_000)
    index = pool(folder, rows)
    changes = rows // 100
    plain, changed = (_copy(index, folder / f"index-{name}") for name in ("plain", "changed"))
    turns: list[tuple[float, float, float, float]] = []
    with serving(plain) as without, serving(changed) as server, Clients() as clients:
        for start in range(0, changes * 9 // 10, 50):
            # Every second one replaces a row.
            ids = [f"{n:09}" if n % 2 else f"new {n}" for n in range(start, min(start + 50, changes * 9 // 10))]
            put = [{"id": id, **written(start + place)} for place, id in enumerate(ids)]
            server.post(f"{_PATH}:batch", {"put": put})
        server.post(f"{_PATH}:batch", {"delete": [f"{rows - 1 - n:09}" for n in range(changes // 10)]})
        for turn in range(rounds + 1):
            numbers = range(turn * size, (turn + 1) * size)
            few = range(10**6 + turn * 50, 10**6 + turn * 50 + 50)
            many = [_send(clients, each, numbers, CLIENTS) for each in (server, without)]
            one = [_send(clients, each, few, 1) for each in (server, without)]
            turns.append((many[0][0], many[1][0], one[0][1], one[1][1]))
        position = server.get(f"{_PATH}?limit=1")["overlay_position"]
    with_rate, plain_rate, with_ms, plain_ms = zip(*turns[1:], strict=True)
    beside = sorted(ratios(with_rate, plain_rate))
    return {
        "rows": rows,
        "changes": changes,
        "writes": position,
        "a_second": median(with_rate, 1),
        "a_second_without": median(plain_rate, 1),
        "p50_ms_at_1": median(with_ms, 2),
        "p50_ms_at_1_without": median(plain_ms, 2),
        "rate_beside_without": median(beside),
        "rounds": [round(ratio, 3) for ratio in beside],
    }


def _send(clients: Clients, server: Server, numbers: range, count: int) -> tuple[float, float]:
    sent = clients.send(Load(server.port, numbers, count, request=request_of)).all_ok()
    return sent.rate, sent.p50_ms


def _copy(index: Path, to: Path) -> Path:
    """Return a copy that can be written to; versions never change, so their files are shared."""
    shutil.rmtree(to, ignore_errors=True)
    return Path(shutil.copytree(index, to, copy_function=os.link))


def _put(port: int, numbers: range, writers: int, look: bool) -> tuple[float, int]:
    """Put rows by some clients; return the seconds, and how many the next request of their client does not find."""

    def write(own: range) -> int:
        connection, lost = http.client.HTTPConnection("127.0.0.1", port, timeout=60), 0
        for number in own:
            body = written(number)
            _ask(connection, "PUT", f"{_PATH}/w{number}", body, 201)
            if look:
                asked = {"task": TASK, "input": body["input"], "k": 1, "keep_copies": True}
                found = _ask(connection, "POST", "/v1/retrieve", asked, 200)
                lost += found["demonstrations"][0]["id"] != f"w{number}"
        connection.close()
        return lost

    with ThreadPoolExecutor(writers) as threads:
        lost: list[int] = []
        shares = [numbers[writer::writers] for writer in range(writers)]
        taken = seconds(lambda: lost.extend(threads.map(write, shares)))
    return taken, sum(lost)


def _ask(connection: http.client.HTTPConnection, method: str, path: str, body: object, expected: int) -> Any:  # noqa: ANN401
    connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != expected:
        raise RuntimeError(f"{method} {path} returned {answer.status}: {content.decode()}")
    return json.loads(content)


def _syncs_a_second(path: Path, count: int, content: bytes = bytes(2_000)) -> float:
    """Return how often a second the disk syncs a file that grows by about what a put writes."""

    def sync() -> None:
        stream.write(content)
        os.fdatasync(stream.fileno())

    with path.open("wb", buffering=0) as stream:
        work: Callable[[], object] = lambda: [sync() for _ in range(count)]  # noqa: E731
        taken = seconds(work)
    path.unlink()
    return count / taken
