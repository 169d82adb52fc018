"""What building and searching an index costs, beside the libraries alone, and how good approximate search is.

    python benchmarks/index.py --out FOLDER [--parts NAME,...] [--rows N]

The parts, each on made-up rows and vectors (``index_made_up.py``):

- ``encode``: encoding 2,000 texts in a build, beside ``model.encode`` on the same texts sorted by length;
- ``rebuild``: 20,000 rows from scratch, beside the same with 1 % changed and ``--reuse``;
- ``flat``: search among 100,000 vectors of 384 numbers, one query and 64 at once, beside faiss alone;
- ``million``: 1,000,000 vectors in the kind that ``auto`` takes: recall and time of a query beside comparing with every
  vector, on one core; opening them mapped beside reading them; resident memory;
- ``ivfpq``: 2,000,000 vectors as IVF-PQ in float16: peak memory of the build, bytes a row, recall and queries a second.

``--rows`` makes a part smaller, to try it. Prints a JSON line a part, and keeps it in FOLDER; what is there is not
measured again. Times on shared cores are only good for their ratios, which are medians of turns.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
from index_made_up import MadeUpEncoder, write_numbers, write_sentences

from udr.data import encoder_demonstration, open_collection
from udr.models import DEFAULT_ENCODER, SentenceEncoder
from udr.search import FaissSearch, open_index
from udr.store import SearchSettings, index_path, open_searcher, open_version, write_settings
from udr_index import exact_values, measure, tune
from udr_index.build import BuildConfig, Progress, build

TASK, RECALL, K = "made_up", 0.95, 10
QUERIES = 200


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--rows", type=int)
    arguments = parser.parse_args()
    for name in arguments.parts.split(","):
        measured, rows = PARTS[name]
        folder = arguments.out / f"{name}-{arguments.rows or rows}"
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / "figures.json"
        if not kept.exists():
            figures = {"part": name, "rows": arguments.rows or rows, **measured(folder, arguments.rows or rows)}
            kept.write_text(json.dumps(figures) + "\n", "utf-8")
        print(kept.read_text("utf-8"), end="", flush=True)
    return 0


def encode(folder: Path, rows: int, rounds: int = 5) -> dict[str, object]:
    tasks = write_sentences(folder / "tasks", rows)
    encoder = SentenceEncoder.load(DEFAULT_ENCODER)
    pool = open_collection(tasks).tasks[TASK].pool()
    texts = sorted((encoder_demonstration(pool.task, row) for row in pool.rows), key=len)

    def ours(number: int) -> float:
        told: list[Progress] = []
        build(BuildConfig(tasks=tasks, out=folder / f"out-{time.time_ns()}"), encoder, told.append)
        rate = [one.rate for one in told if one.stage == "encoded"][-1]
        assert rate is not None
        return rate

    def plain(number: int) -> float:
        started = time.perf_counter()
        encoder.model.encode_document(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
        return len(texts) / (time.perf_counter() - started)

    ratios = [ours(number) / plain(number) for number in range(rounds)]
    return {"rate_beside_plain": round(statistics.median(ratios), 3), "rounds": [round(one, 3) for one in ratios]}


def rebuild(folder: Path, rows: int) -> dict[str, object]:
    encoder = SentenceEncoder.load(DEFAULT_ENCODER)
    old = write_sentences(folder / "old", rows)
    new = write_sentences(folder / "new", rows, changed=0.01)
    first = _seconds(lambda: build(BuildConfig(tasks=old, out=folder / "out"), encoder))
    again = []
    for number in range(3):
        config = BuildConfig(tasks=new, out=folder / f"again-{number}-{time.time_ns()}", reuse=folder / "out")
        again.append(_seconds(lambda config=config: build(config, encoder)))
    return {
        "seconds_from_scratch": round(first, 1),
        "seconds_with_reuse": round(statistics.median(again), 2),
        "times_as_fast": round(first / statistics.median(again), 1),
    }


def flat(folder: Path, rows: int, rounds: int = 61) -> dict[str, object]:
    made_up = MadeUpEncoder()
    vectors, queries = made_up.vectors(range(rows)), made_up.vectors(range(rows, rows + 64))
    ours = FaissSearch(vectors)
    raw = faiss.IndexFlatIP(vectors.shape[1])
    raw.add(vectors)
    figures: dict[str, object] = {}
    for count in (1, 64):
        asked = queries[:count]
        sides = {"ours": lambda: ours.search(asked, K), "raw": lambda: raw.search(asked, K)}  # noqa: B023
        seconds = _in_turn(sides, rounds)
        figures[f"queries_{count}_beside_faiss"] = round(seconds["ours"] / seconds["raw"], 3)
        figures[f"queries_{count}_milliseconds"] = round(1000 * seconds["ours"], 2)
    return figures


def million(folder: Path, rows: int) -> dict[str, object]:
    figures = _in_child(_build, folder, rows, {"kind": "auto"})
    version = open_version(folder / "out")
    figures |= _in_child(_approximate, folder, rows)
    path, kind = version.path / index_path(TASK), version.manifest.partitions[TASK].kind

    def read() -> object:
        return np.load(version.path / f"partitions/{TASK}/vectors.npy"), open_index(path, kind, mapped=False)

    sides = {"mapped": lambda: open_searcher(version, TASK, SearchSettings()), "read": read}
    seconds = _in_turn(sides, 5)
    figures["opening_mapped_beside_reading"] = round(seconds["mapped"] / seconds["read"], 4)
    return figures


def ivfpq(folder: Path, rows: int) -> dict[str, object]:
    figures = _in_child(_build, folder, rows, {"kind": "ivfpq", "dtype": "float16"})
    figures |= _in_child(_approximate, folder, rows)
    version = open_version(folder / "out")
    sizes = {name: stamp.size for name, stamp in version.manifest.files.items()}
    figures["bytes_a_row"] = {Path(name).name: round(size / rows, 1) for name, size in sizes.items()}
    return figures


def _build(folder: Path, rows: int, options: dict) -> dict[str, object]:
    tasks = write_numbers(folder / "tasks", rows)
    config = BuildConfig(tasks=tasks, out=folder / "out", flat_below=0, **options)
    times: dict[str, float] = {}
    started = time.monotonic()

    def told(progress: Progress) -> None:
        times[progress.stage] = time.monotonic() - started

    build(config, MadeUpEncoder(), told)
    return {
        "build_seconds_until": {stage: round(seconds) for stage, seconds in times.items()},
        "build_peak_gib": round(_peak_gib(), 2),
    }


def _approximate(folder: Path, rows: int) -> dict[str, object]:
    """Tune the partition, and compare it with comparing with every vector, both on one core."""
    faiss.omp_set_num_threads(1)
    version = open_version(folder / "out")
    kind = version.manifest.partitions[TASK].kind
    queries = MadeUpEncoder().vectors(range(rows, rows + QUERIES))
    best = tune(version, TASK, queries, RECALL, K)[-1]
    assert best.settings is not None
    write_settings(version.path, version.manifest, {TASK: best.settings})
    searcher = open_searcher(version, TASK, best.settings)
    resident = _peak_gib()
    # Float16 is compared as the float32 that a user who searches exactly would hold.
    exact = FaissSearch(np.ascontiguousarray(version.vectors(TASK), dtype=np.float32))
    turns = [
        (_seconds(lambda query=query: searcher.search(query, K)), _seconds(lambda query=query: exact.search(query, K)))
        for query in queries[:40, None]
    ]
    approximate_s, exact_s = (statistics.median(side) for side in zip(*turns, strict=True))
    recall, _ = measure(searcher, queries, exact_values(version.vectors(TASK), queries, K))
    return {
        "kind": kind,
        "settings": f"{best.settings.parameters} oversample={best.settings.oversample}",
        "recall_at_10": round(recall, 4),
        "times_the_exact_rate": round(exact_s / approximate_s, 1),
        "queries_a_second_on_one_core": round(1 / approximate_s),
        "resident_gib_with_pages_of_exact_search": round(resident, 2),
    }


def _peak_gib() -> float:
    # Linux counts in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _in_child(work: Callable[..., dict[str, object]], *arguments: object) -> dict[str, object]:
    """Do it in a process of its own, so that its peak of memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _in_turn(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each side, measured in turn."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, work in sides.items():
            taken[name].append(_seconds(work))
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


PARTS: dict[str, tuple[Callable[[Path, int], dict[str, object]], int]] = {
    "encode": (encode, 2_000),
    "rebuild": (rebuild, 20_000),
    "flat": (flat, 100_000),
    "million": (million, 1_000_000),
    "ivfpq": (ivfpq, 2_000_000),
}


if __name__ == "__main__":
    sys.exit(main())
