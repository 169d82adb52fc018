"""Search by faiss on the card, relative to the CPU: are the ids equal, filters included, and what are the rates?

    python benchmarks/gpu/card_search.py --out FOLDER

A million made-up vectors of 384 dimensions, in clusters of clusters. Flat partitions, in float32 and float16, and an
inverted file of 8-bit codes that the device trains, fills and searches, with the same lists on both sides. Each is
searched for 10 of all rows, and of filtered ones: a half, a hundredth, and one in ten thousand. ``equal_ids`` is the
share of ids that are the CPU's: 1 for flat search, less for the inverted file, whose codes both sides round in their
own ways. Queries are asked one at a time, then 64; rates are medians of three turns.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
from card import part
from index_made_up import MadeUpEncoder
from measuring import in_turn, median, seconds

from udr.search import (
    MOST,
    ExactProposals,
    FaissGpu,
    FaissSearch,
    Mask,
    Proposer,
    RankedProposals,
    Searcher,
    Vectors,
    find_gpu,
    make_index,
    proposer,
    proposer_among,
    set_parameters,
)

ROWS, QUERIES, ALONE, K, BATCH, TURNS, OVERSAMPLE = 1_000_000, 256, 16, 10, 64, 3, 4
KIND, PROBES, TRAINED, THREADS = "IVF{lists},SQ8", 32, 400_000, 8
SHARES = (1.0, 0.5, 0.01, 0.0001)


def main(given: Sequence[str] | None = None) -> None:
    part("search", __doc__, measure, given)


def measure(arguments: argparse.Namespace) -> Iterator[tuple[str, Callable[[], object]]]:
    rows, queries = (4_000, 64) if arguments.quick else (ROWS, QUERIES)
    gpu = find_gpu(arguments.device)
    if gpu is None and arguments.device != "cpu":
        raise SystemExit("search: this faiss cannot use the card; install the extra gpu (faiss-gpu-cuvs)")
    vectors, asked = np.split(MadeUpEncoder().drawn(rows + queries), [rows])
    exact, draw = FaissSearch(vectors), np.random.default_rng(0)
    # The first row passes, so that a filter never leaves none.
    masks = {share: None if share == 1 else (draw.random(rows) < share) | (np.arange(rows) == 0) for share in SHARES}
    yield "rows", lambda: rows
    yield (
        "flat",
        lambda: _compared(
            ExactProposals(_flat(gpu, vectors, fp16=False), vectors, limit=MOST, exact=exact), exact, asked, masks
        ),
    )
    yield (
        "flat, float16",
        lambda: _compared(
            RankedProposals(_flat(gpu, vectors, fp16=True), vectors, exact, OVERSAMPLE, MOST), exact, asked, masks
        ),
    )
    yield "lists", lambda: _lists(gpu, vectors, asked, exact, masks)


def _flat(gpu: FaissGpu | None, vectors: Vectors, *, fp16: bool) -> Proposer:
    if gpu is None:
        return proposer(make_index("Flat", vectors, sample=len(vectors), threads=1))
    return gpu.flat(vectors, fp16=fp16)


def _lists(
    gpu: FaissGpu | None, vectors: Vectors, queries: Vectors, exact: Searcher, masks: Mapping[float, Mask | None]
) -> dict[str, object]:
    lists = min(4096, len(vectors) // 64)
    built = partial(make_index, KIND.format(lists=lists), vectors, sample=TRAINED, threads=THREADS)
    took, made = _timed(built if gpu is None else partial(built, to_device=gpu.to_device))
    index = made if gpu is None else gpu.from_device(made)
    parameters = f"nprobe={min(PROBES, lists)}"
    propose, limit = (proposer(index), MOST) if gpu is None else gpu.index(index, parameters, fp16=False)
    on_card = RankedProposals(propose, vectors, exact, OVERSAMPLE, limit)
    set_parameters(index, parameters)
    # As udr searches on the CPU, which looks into more lists if a filter is given.
    found = proposer_among(index)
    assert found is not None, "the index has lists"
    among, scanned = found
    on_cpu = RankedProposals(proposer(index), vectors, exact, OVERSAMPLE, among=among, scanned=scanned)
    return {"built_seconds": round(took, 1), **_compared(on_card, on_cpu, queries, masks)}


def _timed(work: Callable[[], object]) -> tuple[float, object]:
    made: list[object] = []
    return seconds(lambda: made.append(work())), made[0]


def _compared(
    on_card: Searcher, on_cpu: Searcher, queries: Vectors, masks: Mapping[float, Mask | None]
) -> dict[str, dict[str, float]]:
    """Return the share of equal ids and the rates in queries a second, by the share of rows that pass a filter."""
    return {
        f"of {share:g}": {
            "equal_ids": round(
                float(np.mean(on_card.search(queries, K, mask)[0] == on_cpu.search(queries, K, mask)[0])), 6
            ),
            **_rates(on_card, on_cpu, queries, mask),
        }
        for share, mask in masks.items()
    }


def _rates(on_card: Searcher, on_cpu: Searcher, queries: Vectors, mask: Mask | None) -> dict[str, float]:
    rates: dict[str, float] = {}
    for size, some in {1: queries[:ALONE], BATCH: queries}.items():

        def searched(searcher: Searcher, size: int = size, some: Vectors = some) -> None:
            for batch in _batches(some, size):
                searcher.search(batch, K, mask)

        turns = in_turn({"card": partial(searched, on_card), "cpu": partial(searched, on_cpu)}, TURNS)
        for side, taken in turns.items():
            rates[f"{side}_a_second_{size}_at_once"] = round(len(some) / median(taken, 9), 1)
    return rates


def _batches(queries: Vectors, size: int) -> Iterator[Vectors]:
    for start in range(0, len(queries), size):
        yield queries[start : start + size]


if __name__ == "__main__":
    main()
