"""The measurement of one attack for ``hostile.py``: quiet seconds, the attack, and the seconds after."""

import asyncio
import multiprocessing
import re
import socket
import time
from concurrent.futures import Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

from hostile_attacks import ATTACKS, attack, prepare
from hostile_client import Connection, post
from hostile_index import LONG, Keys
from hostile_watch import DEADLINE_SECONDS, Phases, Seen, do_nothing, watch
from service_made_up import TASKS, Words, sentence
from service_running import Server

HEARTBEAT_MS, MEMORY_MIB, LOG_LINES = 100, 64, 100
"""The most that an attack may cause."""

_START_SECONDS = 0.2
_SAMPLE_SECONDS = 0.5
_WARMING = ((64, 17), (64, 17), (64, 17), (16, 300))
"""The texts of the batches before an attack, and the words of each."""


class Seconds(NamedTuple):
    """How long it is quiet, the attack lasts, and what follows counts."""

    quiet: float
    attack: float
    after: float


def measure(name: str, server: Server, log: Path, keys: Keys, seconds: Seconds) -> dict[str, object]:
    """Attack a server; return what was seen, and which limits were ``missed``."""
    _warm_up(server, keys)
    lines, size = _log(log)
    spawn = multiprocessing.get_context("spawn")
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        ProcessPoolExecutor(1, spawn) as attacker,
        ProcessPoolExecutor(1, spawn) as watcher,
    ):
        nothing = spawn.Process(target=do_nothing, args=(listener,), daemon=True)
        nothing.start()
        ready: list[Future[float]] = [attacker.submit(prepare, name, keys), watcher.submit(time.monotonic)]
        wait(ready)
        starts = time.monotonic() + _START_SECONDS
        attacks, after = starts + seconds.quiet, starts + seconds.quiet + seconds.attack
        phases = Phases(starts, attacks, after, after + seconds.after)
        watching = watcher.submit(watch, server.port, listener.getsockname()[1], keys.honest, phases)
        attacking = attacker.submit(attack, name, keys, server.port, attacks, after)
        before, descriptors = _samples(server, phases, watching)
        answers, seen = attacking.result(), watching.result()
        nothing.terminate()
        nothing.join()
    memory, written = _peak_mib(server) - before, _log(log)
    statuses = seen["attack"].statuses + seen["after"].statuses
    slowest = max(seen[phase].asked for phase in ("attack", "after"))
    heartbeat = {phase: round(1000 * found.beat) for phase, found in seen.items()}
    found = {
        "heartbeat": max(heartbeat["attack"], heartbeat["after"]) <= HEARTBEAT_MS,
        "honest": statuses.keys() == {"200"} and slowest <= DEADLINE_SECONDS,
        "memory": memory <= MEMORY_MIB,
        "log": written[0] - lines <= LOG_LINES,
        "alive": server.process.poll() is None,
    }
    return {
        "about": ATTACKS[name].about,
        "seconds": seconds.attack,
        "missed": [name for name, kept in found.items() if not kept],
        "heartbeat_ms": heartbeat,
        "machine_ms": {phase: round(1000 * found.idle) for phase, found in seen.items()},
        "honest": dict(statuses),
        "honest_slowest_seconds": {phase: round(found.asked, 3) for phase, found in seen.items()},
        "honest_reconnected": sum(found.reconnected for found in seen.values()),
        "memory_mib": round(memory, 1),
        "log_lines": written[0] - lines,
        "log_bytes": written[1] - size,
        "descriptors": descriptors,
        "attacker": answers,
    }


def _warm_up(server: Server, keys: Keys) -> None:
    """Ask what honest clients ask, so that memory that every service needs does not count."""
    requests = []
    for turn, (size, words) in enumerate(_WARMING):
        texts = [sentence(f"warm {turn} {n}", Words(words, words)) for n in range(size)]
        items = [{"task": TASKS[0], "input": text} for text in texts]
        requests.append(post("/v1/retrieve/batch", {"requests": items}, keys.honest))
    requests.append(post("/v1/prompt", {"task": LONG, "input": sentence("warm"), "budget": 9_999}, keys.honest))

    async def ask() -> None:
        for request in requests:
            connection = await Connection.open(server.port)
            if (status := await connection.send(request)) != "200":
                raise RuntimeError(f"a request before the attack was answered with {status}")
            connection.transport.abort()

    asyncio.run(ask())


def _samples(server: Server, phases: Phases, watching: "Future[dict[str, Seen]]") -> tuple[float, int]:
    """Return the resident memory when the attack starts, and the most open descriptors until the watch ends."""
    wait([watching], timeout=phases.attack - 0.2 - time.monotonic())
    process = Path(f"/proc/{server.process.pid}")
    # The peak counts from now on.
    (process / "clear_refs").write_text("5", "utf-8")
    before, descriptors = server.resident_mib, 0
    while not watching.done():
        descriptors = max(descriptors, len(list((process / "fd").iterdir())))
        wait([watching], timeout=_SAMPLE_SECONDS)
    return before, descriptors


def _peak_mib(server: Server) -> float:
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{server.process.pid}/status").read_text("utf-8"))
    return int(match[1]) / 1024 if match else float("nan")


def _log(path: Path) -> tuple[int, int]:
    with path.open("rb") as lines:
        return sum(1 for _ in lines), path.stat().st_size
