"""What the gateway adds to a chat, and whether streams stay whole and its memory constant.

    python benchmarks/gateway.py --out FOLDER [--parts one,streams] [--quick]

Upstream (``gateway_upstream.py``), gateway and clients run on this machine, in three processes. Tasks, rows and queries
are generated (``service_made_up.py``), and all queries differ. The parts:

- ``one``: one client, which in turn asks the upstream alone, ``/v1/retrieve``, and the gateway; what the gateway takes
  beside the sum of the other two, as the median of the turns, and the seconds to the first byte of a stream;
- ``streams``: 64 clients that read streams for a minute: how many were whole, and the gateway's memory meanwhile. First
  they read as many as fill the cache of query vectors, so that what grows then grows without end.

``--quick`` makes both small, for a trial. Prints a JSON line per part and keeps it in FOLDER.
"""

import asyncio
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
from gateway_upstream import EVENT, PARTS
from measuring import measured_once, median, parts_parser, results_folder
from service_made_up import TASKS, K, MadeUp, made_up, sentence
from service_running import Server, serving

_ROWS, _QUICK_ROWS = 2_000, 400
_CLIENTS = 64
_WARM = 5_000
"""Chats before the memory is watched; the service keeps the vectors of 4,096 queries."""


def main() -> None:
    arguments = parts_parser(__doc__, MEASURES).parse_args()
    folder = results_folder(arguments)
    index = made_up(folder, _QUICK_ROWS if arguments.quick else _ROWS, versions=1)
    for name in arguments.parts.split(","):
        measured_once(
            folder / f"{name}.json",
            lambda name=name: {
                "part": name,
                "rows": index.rows,
                **_with_servers(index, MEASURES[name], arguments.quick),
            },
        )


def _with_servers(index: MadeUp, measure: Callable[[Server, str, bool], Any], quick: bool) -> dict[str, object]:
    command = [sys.executable, str(Path(__file__).with_name("gateway_upstream.py"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as upstream:
        assert upstream.stdout is not None
        url = f"http://127.0.0.1:{int(upstream.stdout.readline())}/v1"
        try:
            with serving(index.index, UDR_UPSTREAM=url) as server:
                result: dict[str, object] = asyncio.run(measure(server, url, quick))
                return result
        finally:
            upstream.terminate()


def _chat(number: int, *, stream: bool = False) -> dict[str, object]:
    text = f"{sentence(f'query {number}')} {number}"
    task = TASKS[number % len(TASKS)]
    return {"model": f"{task}@made-up", "messages": [{"role": "user", "content": text}], "stream": stream}


async def _one(server: Server, url: str, quick: bool) -> dict[str, object]:
    rounds = 100 if quick else 1_000
    service = f"http://127.0.0.1:{server.port}/v1"
    taken: dict[str, list[float]] = {"upstream": [], "retrieve": [], "gateway": []}
    firsts: dict[str, list[float]] = {"upstream": [], "gateway": []}
    numbers = itertools.count()
    async with httpx2.AsyncClient(timeout=60, trust_env=False) as client:

        async def timed(name: str, address: str, body: object, kept: bool) -> None:
            started = time.perf_counter()
            (await client.post(address, json=body)).raise_for_status()
            if kept:
                taken[name].append(time.perf_counter() - started)

        for turn in range(-20, rounds):
            text = f"{sentence(f'query {(number := next(numbers))}')} {number}"
            request = {"task": TASKS[number % len(TASKS)], "input": text, "k": K}
            await timed("upstream", f"{url}/chat/completions", _chat(next(numbers)), turn >= 0)
            await timed("retrieve", f"{service}/retrieve", request, turn >= 0)
            await timed("gateway", f"{service}/chat/completions", _chat(next(numbers)), turn >= 0)
        for _ in range(10 if quick else 50):
            for name, address in (("upstream", url), ("gateway", service)):
                started = time.perf_counter()
                body = _chat(next(numbers), stream=True)
                async with client.stream("POST", f"{address}/chat/completions", json=body) as answer:
                    async for _part in answer.aiter_raw():
                        firsts[name].append(time.perf_counter() - started)
                        break
    ms = {name: [1000 * each for each in values] for name, values in taken.items()}
    added = [
        all_ - alone - retrieve
        for all_, alone, retrieve in zip(ms["gateway"], ms["upstream"], ms["retrieve"], strict=True)
    ]
    return {
        "rounds": rounds,
        **{f"{name}_ms": median(values) for name, values in ms.items()},
        "added_ms": median(added),
        "added_p95_ms": round(statistics.quantiles(added, n=20)[-1], 3),
        **{f"first_byte_{name}_ms": median([1000 * each for each in values]) for name, values in firsts.items()},
    }


async def _streams(server: Server, url: str, quick: bool) -> dict[str, object]:
    warm, duration = (_WARM // 10, 6.0) if quick else (_WARM, 60.0)
    address = f"http://127.0.0.1:{server.port}/v1/chat/completions"
    whole, broken, numbers = 0, list[str](), itertools.count()
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=_CLIENTS)

    async def read(client: httpx2.AsyncClient, goes_on: Callable[[], bool]) -> None:
        nonlocal whole
        while goes_on():
            try:
                answer = await client.post(address, json=_chat(next(numbers), stream=True))
            except httpx2.RequestError as error:
                broken.append(repr(error))
                continue
            if answer.status_code == 200 and answer.content == EVENT * PARTS:
                whole += 1
            else:
                broken.append(f"{answer.status_code}, {len(answer.content)} bytes")

    async def watch(resident: list[float], until: float) -> None:
        while time.monotonic() < until:
            resident.append(server.resident_mib)
            await asyncio.sleep(duration / 10)

    async with httpx2.AsyncClient(timeout=60, trust_env=False, limits=limits) as client:
        await asyncio.gather(*(read(client, lambda: whole + len(broken) < warm) for _ in range(_CLIENTS)))
        warmed, until, resident = whole, time.monotonic() + duration, list[float]()
        readers = (read(client, lambda: time.monotonic() < until) for _ in range(_CLIENTS))
        await asyncio.gather(watch(resident, until), *readers)
    return {
        "clients": _CLIENTS,
        "warm": warmed,
        "seconds": duration,
        "whole": whole - warmed,
        "broken": len(broken),
        "first_broken": broken[:3],
        "resident_mib": [round(each, 1) for each in resident],
        "grown_percent": round(100 * (resident[-1] / resident[0] - 1), 2),
    }


MEASURES: dict[str, Callable[[Server, str, bool], Any]] = {"one": _one, "streams": _streams}

if __name__ == "__main__":
    main()
