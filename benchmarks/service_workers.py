"""Three parts of ``service.py``: several workers relative to one, under overload, and while they are killed."""

import itertools
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from measuring import median, ratios
from service_load import Clients, Load, Sent
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
    """Send four workers ten times what they sustain until the version has changed 20 times: only 200 and 429."""
    count, seconds = (3, 3) if quick else (RELOADS, 20)
    publish(made.index, made.versions[0])
    with serving(made.index, UDR_WORKERS="4") as server, Clients() as clients, ThreadPoolExecutor(1) as thread:
        clients.send(Load(server.port, range(CLIENTS * 4), CLIENTS))
        rate = clients.send(Load(server.port, range(10**6, 10**6 + CLIENTS * 8), CLIENTS)).all_ok().rate
        size = round(TIMES * rate * seconds)
        reloading = thread.submit(_reload, made, server, count)
        sent: list[Sent] = []
        while not reloading.done():
            first = 3 * 10**6 + len(sent) * size
            sent.append(clients.send(Load(server.port, range(first, first + size), WAITING_CLIENTS, rate=TIMES * rate)))
        reloads = reloading.result()
    answers = [answer for part in sent for answer in part.answers]
    duration = sum(part.seconds for part in sent)
    return {
        "sustainable_a_second": round(rate, 1),
        "sent_a_second": round(len(answers) / duration, 1),
        "seconds": round(duration, 1),
        "reloads": len(reloads),
        "reload_seconds": {"p50": median(reloads, 1), "most": round(max(reloads), 1)},
        "statuses": Sent(answers, duration).statuses(),
        "failed": sum(answer.status not in (200, 429) for answer in answers),
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


def _reload(made: MadeUp, server: Server, count: int) -> list[float]:
    """Change the version a number of times; return the seconds of each reload."""
    seconds = []
    for turn in range(1, count + 1):
        time.sleep(1)
        publish(made.index, made.versions[turn % 2])
        began = time.perf_counter()
        server.post("/v1/admin/reload")
        seconds.append(time.perf_counter() - began)
    return seconds


def _workers(server: Server) -> list[int]:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    return list(map(int, children.read_text("ascii").split()))


def _memory_mib(processes: list[int]) -> float:
    """Return the memory of processes together: what several share counts once."""
    pages = [Path(f"/proc/{process}/smaps_rollup").read_text("utf-8") for process in processes]
    return round(sum(int(re.search(r"^Pss: +(\d+) kB", page, re.MULTILINE)[1]) for page in pages) / 1024, 1)
