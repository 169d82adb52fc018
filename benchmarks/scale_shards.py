"""Pools in shards beside one index of all rows: are the answers the same, what do they cost, and what if a shard stops.

    python benchmarks/scale_shards.py --out FOLDER [--rows N] [--queries N] [--shards N]

Builds one index of made-up rows (``index_made_up.py``) and one for each shard, with metadata to filter by; serves each
shard in a process of its own, with ``udr.client.shards.ShardedClient`` in this one; and compares its answers with those
of ``Retriever`` over the one index: ids, order and similarities, of plain queries and of those with four kinds of
filters. Then stops a shard by SIGSTOP, which keeps its connections open, and by SIGKILL, under load: every answer must
say so, in time, and be that of the other rows; and lets it go on. Prints a JSON line and keeps it in FOLDER; exits with
1 if an answer is wrong. On shared cores the times are those of processes that wait for one another.
"""

import asyncio
import json
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from index_made_up import TASK, MadeUpEncoder, write_texts
from measuring import measured, parser

from udr.client.shards import Placements, ShardedClient
from udr.retrieval import Retrieval, RetrievalRequest, Retriever
from udr_index.build import BuildConfig, Shard, build
from udr_index.versions import PLACEMENTS, place, shard_folder
from udr_service import Settings, create_app, listening

K, DIMENSION, SECONDS = 8, 64, 2.0
FILTERS = (None, "n < 1", "n < 50", "n >= 20 and part = 3", 'not part in [0, 1, 2] or $target = "one"')
"""All rows, one in a hundred, a half, one in eight, and about two thirds."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--queries", type=int, default=1000)
    options.add_argument("--shards", type=int, default=4)
    arguments = options.parse_args()
    folder = arguments.out / f"shards-{arguments.shards}-{arguments.rows}"
    folder.mkdir(parents=True, exist_ok=True)
    result = measured(
        folder / "figures.json",
        lambda: measure(folder, arguments.rows, arguments.queries, arguments.shards),
        queries=arguments.queries,
    )
    print(json.dumps(result), flush=True)
    sys.exit(int(result["wrong"] + result["wrong_partial"] + result["late"] > 0))


def measure(folder: Path, rows: int, queries: int, number: int) -> dict[str, object]:
    tasks = _write(folder / "tasks", rows)
    shards = [Shard(n, number) for n in range(1, number + 1)]
    folders = [shard_folder(folder, shard) for shard in shards]
    # One process each, so that the memory of one is not that of another.
    built = [_build(tasks, folder / "whole", None)] + [
        _build(tasks, out, shard) for out, shard in zip(folders, shards, strict=True)
    ]
    with _serving(folders) as services:
        placements = place(folder / PLACEMENTS, {out: [url] for out, (_, url) in zip(folders, services, strict=True)})
        processes = [process for process, _ in services]
        requests = [
            RetrievalRequest(task=TASK, input=f"text {rows + n}", k=K, filter=FILTERS[n % len(FILTERS)])
            for n in range(queries)
        ]
        with Retriever.open(folder / "whole", encoder=MadeUpEncoder(DIMENSION), verify=False) as whole:
            expected, single = _one_process(whole, requests)
            result = asyncio.run(_sharded(placements, requests, expected, whole, folders, processes))
    return {
        "rows": rows,
        "shards": number,
        "queries": queries,
        "build_seconds_whole": built[0][0],
        "build_seconds_of_each": [seconds for seconds, _ in built[1:]],
        "build_mib_whole": built[0][1],
        "build_mib_of_each": [mib for _, mib in built[1:]],
        "one_process_ms": single,
        **result,
    }


def _write(root: Path, rows: int) -> Path:
    if (root / TASK / "task.toml").exists():
        return root
    # Every hundredth row has the text of another, so that ties cross shards.
    texts = (f"text {n - 1 if n % 100 == 99 else n}" for n in range(rows))
    return write_texts(root, texts, lambda n: {"n": n * 7919 % 100, "part": n % 8})


def _build(tasks: Path, out: Path, shard: Shard | None) -> tuple[float, float]:
    """Build an index in a process; return its seconds and its peak memory in MiB."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_built, (tasks, out, shard))


def _built(tasks: Path, out: Path, shard: Shard | None) -> tuple[float, float]:
    started = time.perf_counter()
    config = BuildConfig(
        tasks=tasks, out=out, shard=shard, kind="flat", bm25=False, label_head=False, export=False, device="cpu"
    )
    build(config, MadeUpEncoder(DIMENSION))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return round(time.perf_counter() - started, 1), round(peak)


@contextmanager
def _serving(folders: Sequence[Path]) -> Iterator[list[tuple[Any, str]]]:
    context = multiprocessing.get_context("spawn")
    services = []
    try:
        for folder in folders:
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_serve, args=(folder, sender))
            process.start()
            services.append((process, receiver.recv()))
        yield services
    finally:
        for process, _ in services:
            process.kill()
            process.join()


def _serve(folder: Path, sender: Any) -> None:  # noqa: ANN401
    with (
        Retriever.open(folder, encoder=MadeUpEncoder(DIMENSION), verify=False) as retriever,
        listening("127.0.0.1", 0) as listener,
    ):
        app = create_app(retriever, Settings(usage="off"), _Words())
        sender.send(f"http://127.0.0.1:{listener.getsockname()[1]}")
        uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False)).run([listener])


class _Words:
    def count(self, text: str) -> int:
        return len(text.split())


def _one_process(whole: Retriever, requests: Sequence[RetrievalRequest]) -> tuple[list[Retrieval], float]:
    """Return the answers, and the milliseconds of one."""
    whole.answer(requests[: len(FILTERS)])
    started = time.perf_counter()
    answers = [result for request in requests for result in whole.answer([request])]
    seconds = time.perf_counter() - started
    return [answer for answer in answers if isinstance(answer, Retrieval)], round(1000 * seconds / len(requests), 2)


async def _sharded(
    placements: Placements,
    requests: Sequence[RetrievalRequest],
    expected: Sequence[Retrieval],
    whole: Retriever,
    folders: Sequence[Path],
    processes: Sequence[Any],
) -> dict[str, object]:
    async with ShardedClient(placements, timeout=60.0) as client:
        # The first request with a filter reads its fields of all rows.
        await client.answer(requests[: len(FILTERS)])
        started = time.perf_counter()
        answers = [result for request in requests for result in await client.answer([request])]
        seconds = time.perf_counter() - started
    wrong = sum(_shown(answer) != _shown(one) for answer, one in zip(answers, expected, strict=True))
    lost = _ids(folders[1])
    some, right = requests[:100], [_shown(one) for one in expected[:100]]
    partial = await asyncio.to_thread(_without, whole, some, lost)
    async with ShardedClient(placements, timeout=SECONDS) as client:
        os.kill(processes[1].pid, signal.SIGSTOP)
        silent = await _during(client, some, right, partial)
        os.kill(processes[1].pid, signal.SIGCONT)
        await asyncio.sleep(1.5)
        back = await _during(client, some, right, partial)
        processes[1].kill()
        processes[1].join()
        dead = await _during(client, some, right, partial)
    return {
        "sharded_ms": round(1000 * seconds / len(requests), 2),
        "wrong": wrong,
        "wrong_partial": silent["wrong"] + back["wrong"] + dead["wrong"],
        "late": silent["late"] + dead["late"],
        "stopped": silent,
        "going_on": back,
        "killed": dead,
    }


async def _during(
    client: ShardedClient, requests: Sequence[RetrievalRequest], whole: Sequence[object], partial: Sequence[object]
) -> dict[str, Any]:
    """Ask, four at a time; return how many answers lack a shard and say so, are wrong, or are late.

    One that says that it lacks a shard must be that of the other rows, any other that of all rows.
    """
    counts, longest, limit = {"told": 0, "wrong": 0, "late": 0}, 0.0, asyncio.Semaphore(4)

    async def ask(number: int) -> None:
        nonlocal longest
        async with limit:
            started = time.perf_counter()
            (answer,) = await client.answer([requests[number]])
            seconds = time.perf_counter() - started
        told = isinstance(answer, Retrieval) and bool(answer.missing_shards)
        counts["told"] += told
        counts["wrong"] += _shown(answer) != (partial if told else whole)[number]
        counts["late"] += seconds > SECONDS
        longest = max(longest, seconds)

    await asyncio.gather(*(ask(number) for number in range(len(requests))))
    return {**counts, "longest_seconds": round(longest, 2)}


def _shown(answer: object) -> object:
    return [(item.id, item.similarity) for item in answer] if isinstance(answer, Retrieval) else str(answer)


def _ids(folder: Path) -> frozenset[str]:
    with Retriever.open(folder, encoder=MadeUpEncoder(DIMENSION), verify=False) as shard:
        return frozenset(shard.partitions().view.base.table.all_ids(TASK))


def _without(whole: Retriever, requests: Sequence[RetrievalRequest], lost: frozenset[str]) -> list[object]:
    """Return the answers of one index without some rows: of deeper answers, the first that are not among those."""
    deeper = [whole.retrieve(TASK, r.input, 16 * K, filter=r.filter) for r in requests]
    return [[(i.id, i.similarity) for i in answer if i.id not in lost][:K] for answer in deeper]


if __name__ == "__main__":
    main()
