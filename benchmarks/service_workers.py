"""Three parts of ``service.py``: several workers relative to one, under overload, and while they are killed."""

import itertools
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from measuring import median, ratios
from service_load import Clients, Load
from service_made_up import MadeUp, request_of
from service_running import Server, serving

from udr import Client
from udr_index.versions import publish

CLIENTS, WAITING_CLIENTS, TIMES = 64, 1024, 10
RELOADS, KILL_SECONDS = 20, 5.0


def workers(made: MadeUp, quick: bool) -> dict[str, object]:
    """Compare the rate of two workers with that of one, in turn, and the memory of both."""
    rounds, size = (2, 4 * CLIENTS) if quick else (7, 16 * CLIENTS)
    turns: list[tuple[float, float]] = []
    with serving(made.index) as one, serving(made.index, UDR_WORKERS="2") as two, Clients() as clients:
        for turn in range(rounds + 1):
            numbers = range(turn * size, (turn + 1) * size)
            turns.append(tuple(clients.send(Load(s.port, numbers, CLIENTS)).all_ok().rate for s in (two, one)))
        memory = {"one": _memory_mib([one.process.pid]), "two": _memory_mib([two.process.pid, *_workers(two)])}
    # The first turn is a warm-up.
    rates = tuple(zip(*turns[1:], strict=True))
    return {
        "two_a_second": median(rates[0], 1),
        "one_a_second": median(rates[1], 1),
        "two_beside_one": median(ratios(*rates), 3),
        "proportional_memory_mib": memory,
    }


def workers_overload(made: MadeUp, quick: bool) -> dict[str, object]:
    """Send four workers ten times what they sustain while the version changes: only 200 and 429."""
    duration = 10 if quick else 60
    publish(made.index, made.versions[0])
    with serving(made.index, UDR_WORKERS="4") as server, Clients() as clients:
        clients.send(Load(server.port, range(CLIENTS * 4), CLIENTS))
        rate = clients.send(Load(server.port, range(10**6, 10**6 + CLIENTS * 8), CLIENTS)).all_ok().rate
        numbers = range(3 * 10**6, 3 * 10**6 + round(TIMES * rate * duration))
        sending = clients.begin(Load(server.port, numbers, WAITING_CLIENTS, rate=TIMES * rate))
        reloads = _reload_until(made, server, sending.done, 3 if quick else RELOADS, duration)
        sent = sending.result()
    return {
        "sustainable_a_second": round(rate, 1),
        "sent_a_second": round(sent.rate, 1),
        "reloads": reloads,
        "statuses": sent.statuses(),
        "failed": sum(answer.status not in (200, 429) for answer in sent.answers),
    }


def workers_killed(made: MadeUp, quick: bool) -> dict[str, object]:
    """Kill one of two workers every five seconds for a minute, while ``udr.Client`` asks."""
    duration, pause = (10, 3.0) if quick else (60, KILL_SECONDS)
    asked, failed, slowest = itertools.count(), list[str](), [0.0]
    killed = 0
    with serving(made.index, UDR_WORKERS="2") as server, _asking(server.port, 8, asked, failed, slowest):
        started = time.perf_counter()
        while time.perf_counter() - started < duration:
            time.sleep(pause)
            os.kill(_workers(server)[killed % 2], signal.SIGKILL)
            killed += 1
        time.sleep(pause)
        left = len(_workers(server))
    return {
        "seconds": duration,
        "killed": killed,
        "calls": next(asked),
        "failed_calls": len(failed),
        "first_failures": failed[:3],
        "slowest_call_seconds": round(slowest[0], 2),
        "workers_at_the_end": left,
    }


@contextmanager
def _asking(
    port: int, count: int, asked: "itertools.count[int]", failed: list[str], slowest: list[float]
) -> Iterator[None]:
    """Have clients ask until the block ends; count their calls, and keep the errors and the longest time."""
    stopping = threading.Event()

    def ask() -> None:
        with Client(f"http://127.0.0.1:{port}") as client:
            while not stopping.is_set():
                began = time.perf_counter()
                try:
                    client.retrieve(**request_of(next(asked)))
                except Exception as error:
                    failed.append(f"{type(error).__name__}: {error}")
                slowest[0] = max(slowest[0], time.perf_counter() - began)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def _reload_until(made: MadeUp, server: Server, done: Callable[[], bool], count: int, duration: float) -> int:
    """Reload a number of times, spread over a duration; return how many ended before the requests."""
    during = 0
    for turn in range(1, count + 1):
        time.sleep(0.7 * duration / (count + 1))
        publish(made.index, made.versions[turn % 2])
        server.post("/v1/admin/reload")
        during += not done()
    return during


def _workers(server: Server) -> list[int]:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    return list(map(int, children.read_text("ascii").split()))


def _memory_mib(processes: list[int]) -> float:
    """Return the memory of processes together: what several share counts once."""
    pages = [Path(f"/proc/{process}/smaps_rollup").read_text("utf-8") for process in processes]
    return round(sum(int(re.search(r"^Pss: +(\d+) kB", page, re.MULTILINE)[1]) for page in pages) / 1024, 1)
