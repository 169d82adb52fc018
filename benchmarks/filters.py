"""Time filtered search at several shares of rows that pass, beside unfiltered search of the same vectors.

    $ python benchmarks/filters.py --rows 100000 --kind flat --out RESULT.json

Each figure is the median of single queries on one thread. ``compared`` compares the rows that pass one by one,
``proposed`` lets the engine propose more and drops the others, ``same lists`` does so without looking into more lists
of an IVF index, ``chosen`` is what udr does. The recall is against exact search among the rows that pass.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from udr.search import (
    FaissSearch,
    Mask,
    RankedProposals,
    Searcher,
    Vectors,
    make_index,
    proposer,
    proposer_among,
    set_parameters,
)

SHARES = (0.95, 0.5, 0.3, 0.2, 0.1, 0.05, 0.005, 0.0005)


def clustered(count: int, dimension: int, noise: float, draw: np.random.Generator) -> Vectors:
    """Return unit vectors around common centres, as texts of a few subjects are; noise blurs the subjects."""
    centres = draw.standard_normal((500, dimension), dtype=np.float32)
    blur = draw.standard_normal((count, dimension), dtype=np.float32)
    vectors = centres[draw.integers(0, 500, count)] + noise * blur
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def median_ms(search: Callable[[Vectors], object], queries: Vectors) -> float:
    """Return the median of the milliseconds of single queries, after one that does not count."""
    search(queries[:1])
    seconds = []
    for number in range(len(queries)):
        started = time.perf_counter()
        search(queries[number : number + 1])
        seconds.append(time.perf_counter() - started)
    return 1000 * float(np.median(seconds))


def filtered(searcher: Searcher, k: int, rows: Mask, query: Vectors) -> object:
    """Search among some rows."""
    return searcher.search(query, k, rows)


def searchers(vectors: Vectors, kind: str, lists: int, probed: int) -> dict[str, Searcher]:
    """Return searchers that differ in how they filter."""
    exact = FaissSearch(vectors, 1.0)
    if kind == "flat":
        return {
            "chosen": exact,
            "compared": FaissSearch(vectors, 1.0, scanned=1.0),
            "proposed": FaissSearch(vectors, 1.0, scanned=0.0),
        }
    index = make_index(kind, vectors, sample=min(len(vectors), 256 * lists), threads=1)
    set_parameters(index, f"nprobe={probed}")
    among, scanned = proposer_among(index) or (None, 0)
    one_by_one, propose = FaissSearch(vectors, 1.0, scanned=1.0), proposer(index)
    return {
        "chosen": RankedProposals(propose, vectors, exact, 4, among=among, scanned=scanned),
        "compared": RankedProposals(propose, vectors, one_by_one, 4, scanned=len(vectors)),
        "proposed": RankedProposals(propose, vectors, one_by_one, 4, among=among, scanned=0),
        "same lists": RankedProposals(propose, vectors, one_by_one, 4, scanned=0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--kind", default="flat", help="flat, or a factory string of faiss such as IVF1024,Flat")
    parser.add_argument("--probed", type=int, default=16, help="lists that a search without a filter looks into")
    parser.add_argument("--noise", type=float, default=1.0, help="how far vectors lie from their centre")
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    draw = np.random.default_rng(0)
    vectors = clustered(options.rows + options.queries, options.dimension, options.noise, draw)
    queries, vectors = vectors[options.rows :].copy(), vectors[: options.rows].copy()
    lists = int("".join(letter for letter in options.kind.split(",")[0] if letter.isdigit()) or 0)
    engines = searchers(vectors, options.kind, lists, options.probed)
    exact, k = FaissSearch(vectors, 1.0), options.k
    plain = engines["chosen"]
    result: dict[str, object] = {**vars(options), "out": None}
    result["unfiltered_ms"] = unfiltered = median_ms(lambda query: plain.search(query, k), queries)
    best, found = exact.search(queries, k)[1], plain.search(queries, k)[1]
    result["unfiltered_recall"] = recall = float((found >= best[:, -1:]).mean())
    print(f"unfiltered {unfiltered:.2f} ms, recall {recall:.2f}")
    for share in SHARES:
        rows: Mask = draw.random(options.rows) < share
        best = exact.search(queries, k, rows)[1]
        line: dict[str, float] = {}
        for name, searcher in engines.items():
            found = searcher.search(queries, k, rows)[1]
            line[f"{name}_recall"] = float((found >= best[:, -1:]).mean())
            line[f"{name}_ms"] = median_ms(partial(filtered, searcher, k, rows), queries)
        line["chosen_times_unfiltered"] = line["chosen_ms"] / unfiltered
        result[str(share)] = line
        print(f"{share:>7.2%}  " + "  ".join(f"{name} {value:.2f}" for name, value in line.items()))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
