"""The cost of building and searching an index relative to the libraries alone, and the quality of approximate search.

    python benchmarks/index.py --out FOLDER [--parts NAME,...] [--rows N]

The parts, on generated rows and vectors (``index_made_up.py``):

- ``encode``: encoding 2,000 texts in a build, relative to ``model.encode`` on the same texts sorted by length;
- ``rebuild``: 20,000 rows from scratch, relative to the same with 1 % changed and ``--reuse``;
- ``words``: indexing the words of 2,000 rows for BM25, as a share of their build;
- ``flat``: search among 100,000 vectors of 384 numbers, one query and 64 at once, relative to faiss alone;
- ``million``: 1,000,000 vectors in the kind that ``auto`` selects: recall and time of a query relative to exact
  search, on one core; opening them mapped relative to reading them; resident memory;
- ``ivfpq``: 2,000,000 vectors as IVF-PQ in float16: peak memory of the build, bytes per row, recall, queries a second.

``--rows`` makes a part smaller, for a trial. Prints a JSON line per part and keeps it in FOLDER; existing results are
not measured again. On shared cores only the ratios are reliable; they are medians of turns.
"""

import multiprocessing
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import faiss
import numpy as np
from index_made_up import MadeUpEncoder, write_numbers, write_sentences
from measuring import in_turn, measured_once, median, parser, ratios, seconds

from udr.data import encoder_demonstration, input_words, open_collection
from udr.models import BASE_ENCODER, SentenceEncoder
from udr.search import BM25Search, FaissSearch, open_index
from udr.store import SearchSettings, index_path, open_searcher, open_version, write_settings
from udr_index import exact_values, measure, tune
from udr_index.build import BuildConfig, Progress, build

TASK, RECALL, K, QUERIES = "made_up", 0.95, 10, 200
Result = dict[str, object]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--parts", default=",".join(PARTS))
    options.add_argument("--rows", type=int)
    arguments = options.parse_args()
    for name in arguments.parts.split(","):
        part, default_rows = PARTS[name]
        rows = arguments.rows or default_rows
        folder = arguments.out / f"{name}-{rows}"
        folder.mkdir(parents=True, exist_ok=True)
        measured_once(folder / "figures.json", lambda: {"part": name, "rows": rows, **part(folder, rows)})  # noqa: B023


def encode(folder: Path, rows: int, rounds: int = 5) -> Result:
    tasks = write_sentences(folder / "tasks", rows)
    encoder = SentenceEncoder.load(BASE_ENCODER)
    pool = open_collection(tasks).tasks[TASK].pool()
    texts = sorted((encoder_demonstration(pool.task, row) for row in pool.rows), key=len)

    def build_rate() -> float:
        progress: list[Progress] = []
        build(BuildConfig(tasks=tasks, out=folder / f"out-{time.time_ns()}"), encoder, progress.append)
        rate = [step.rate for step in progress if step.stage == "encoded"][-1]
        assert rate is not None
        return rate

    def plain_rate() -> float:
        options = {"batch_size": 32, "normalize_embeddings": True, "show_progress_bar": False}
        return len(texts) / seconds(lambda: encoder.model.encode_document(texts, **options))

    rates = [build_rate() / plain_rate() for _ in range(rounds)]
    return {"rate_beside_plain": median(rates), "rounds": [round(rate, 3) for rate in rates]}


def rebuild(folder: Path, rows: int) -> Result:
    encoder = SentenceEncoder.load(BASE_ENCODER)
    old = write_sentences(folder / "old", rows)
    new = write_sentences(folder / "new", rows, changed=0.01)
    scratch = seconds(lambda: build(BuildConfig(tasks=old, out=folder / "out"), encoder))

    def reuse() -> None:
        build(BuildConfig(tasks=new, out=folder / f"again-{time.time_ns()}", reuse=folder / "out"), encoder)

    reused = median([seconds(reuse) for _ in range(3)], 9)
    return {
        "seconds_from_scratch": round(scratch, 1),
        "seconds_with_reuse": round(reused, 2),
        "times_as_fast": round(scratch / reused, 1),
    }


def words(folder: Path, rows: int, rounds: int = 3) -> Result:
    tasks = write_sentences(folder / "tasks", rows)
    encoder = SentenceEncoder.load(BASE_ENCODER)
    task = open_collection(tasks).tasks[TASK]

    def index_words() -> None:
        pool = task.pool()
        texts = (input_words(pool.task, row.input, row.choices) for row in pool.rows)
        BM25Search(texts).save(folder / f"words-{time.time_ns()}")

    def whole() -> None:
        build(BuildConfig(tasks=tasks, out=folder / f"out-{time.time_ns()}"), encoder)

    taken = in_turn({"words": index_words, "build": whole}, rounds)
    return {
        "share_of_the_build": round(median(ratios(taken["words"], taken["build"]), 9), 5),
        "seconds": {name: median(values) for name, values in taken.items()},
    }


def flat(folder: Path, rows: int, rounds: int = 61) -> Result:
    encoder = MadeUpEncoder()
    vectors, queries = encoder.vectors(range(rows)), encoder.vectors(range(rows, rows + 64))
    ours = FaissSearch(vectors)
    plain = faiss.IndexFlatIP(vectors.shape[1])
    plain.add(vectors)
    result: Result = {}
    for count in (1, 64):
        sides = {"ours": partial(ours.search, queries[:count], K), "plain": partial(plain.search, queries[:count], K)}
        taken = {name: median(values, 9) for name, values in in_turn(sides, rounds).items()}
        result[f"queries_{count}_beside_faiss"] = round(taken["ours"] / taken["plain"], 3)
        result[f"queries_{count}_milliseconds"] = round(1000 * taken["ours"], 2)
    return result


def million(folder: Path, rows: int) -> Result:
    result = _in_child(_build, folder, rows, {"kind": "auto"})
    version = open_version(folder / "out")
    result |= _in_child(_approximate, folder, rows)
    path, kind = version.path / index_path(TASK), version.manifest.partitions[TASK].kind

    def read() -> object:
        vectors = np.load(version.path / f"partitions/{TASK}/vectors.npy")
        return vectors, open_index(path, kind, vectors.shape, mapped=False)

    taken = in_turn({"mapped": lambda: open_searcher(version, TASK, SearchSettings()), "read": read}, 5)
    result["opening_mapped_beside_reading"] = round(median(taken["mapped"], 9) / median(taken["read"], 9), 4)
    return result


def ivfpq(folder: Path, rows: int) -> Result:
    result = _in_child(_build, folder, rows, {"kind": "ivfpq", "dtype": "float16"})
    result |= _in_child(_approximate, folder, rows)
    sizes = {name: stamp.size for name, stamp in open_version(folder / "out").manifest.files.items()}
    result["bytes_a_row"] = {Path(name).name: round(size / rows, 1) for name, size in sizes.items()}
    return result


def _build(folder: Path, rows: int, options: dict) -> Result:
    tasks = write_numbers(folder / "tasks", rows)
    config = BuildConfig(tasks=tasks, out=folder / "out", flat_below=0, **options)
    times: dict[str, int] = {}
    started = time.monotonic()

    def on_progress(progress: Progress) -> None:
        times[progress.stage] = round(time.monotonic() - started)

    build(config, MadeUpEncoder(), on_progress)
    return {"build_seconds_until": times, "build_peak_gib": round(_peak_gib(), 2)}


def _approximate(folder: Path, rows: int) -> Result:
    """Tune the partition, and compare it with exact search, both on one core."""
    faiss.omp_set_num_threads(1)
    version = open_version(folder / "out")
    queries = MadeUpEncoder().vectors(range(rows, rows + QUERIES))
    best = tune(version, TASK, queries, RECALL, K)[-1]
    assert best.settings is not None
    write_settings(version.path, version.manifest, {TASK: best.settings})
    searcher = open_searcher(version, TASK, best.settings)
    resident = _peak_gib()
    # Exact search converts float16 to float32, as a user would.
    exact = FaissSearch(np.ascontiguousarray(version.vectors(TASK), dtype=np.float32))
    turns = [
        (seconds(partial(searcher.search, query, K)), seconds(partial(exact.search, query, K)))
        for query in queries[:40, None]
    ]
    ours, plain = (median(side, 9) for side in zip(*turns, strict=True))
    recall, _ = measure(searcher, queries, exact_values(version.vectors(TASK), queries, K))
    return {
        "kind": version.manifest.partitions[TASK].kind,
        "settings": f"{best.settings.parameters} oversample={best.settings.oversample}",
        "recall_at_10": round(recall, 4),
        "times_the_exact_rate": round(plain / ours, 1),
        "queries_a_second_on_one_core": round(1 / ours),
        "resident_gib_with_pages_of_exact_search": round(resident, 2),
    }


def _peak_gib() -> float:
    # Linux counts in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _in_child(work: Callable[..., Result], *arguments: object) -> Result:
    """Run work in its own process, so that its memory peak is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


PARTS: dict[str, tuple[Callable[[Path, int], Result], int]] = {
    "encode": (encode, 2_000),
    "rebuild": (rebuild, 20_000),
    "words": (words, 2_000),
    "flat": (flat, 100_000),
    "million": (million, 1_000_000),
    "ivfpq": (ivfpq, 2_000_000),
}


if __name__ == "__main__":
    main()
