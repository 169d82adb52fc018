"""Parts of ``live.py``: what a filter costs, beside no filter and beside Qdrant's local mode."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
from index_made_up import MadeUpEncoder
from live_made_up import PARTS, TASK, part_of, write_rows
from measuring import median, ratios, seconds

from udr import Retriever
from udr.search import DECIMALS, Vectors
from udr.store import IndexVersion, open_version, write_settings
from udr_index import tune
from udr_index.build import BuildConfig, build

K, RECALL = 8, 0.95
SHARES = (0.5, 0.05, 0.005, 0.0005)

_BATCH = 1_000

Search = Callable[[int, int | None], list[int]]
"""Returns the numbers of the rows nearest to a query, by its number; among those whose part is below a bound."""

MakeRival = Callable[[np.ndarray[Any, Any], np.ndarray[Any, Any], Vectors], Search]
"""Returns another search of vectors, each with its part, for queries."""


def flat_index(folder: Path, quick: bool) -> dict[str, object]:
    """Build the index of ``flat``."""
    return _built(_Pool(folder.parent / "flat", 20_000 if quick else 100_000, "flat"))


def ivf_index(folder: Path, quick: bool) -> dict[str, object]:
    """Build the index of ``ivf``, and tune it; the longest part."""
    return _built(_Pool(folder.parent / "ivf", 30_000 if quick else 1_000_000, "ivf"))


def flat(folder: Path, quick: bool) -> dict[str, object]:
    """Filter 100,000 vectors that are compared one by one."""
    return _filtered(_Pool(folder, 20_000 if quick else 100_000, "flat"), 5 if quick else 60)


def ivf(folder: Path, quick: bool) -> dict[str, object]:
    """Filter 1,000,000 vectors in an IVF index."""
    return _filtered(_Pool(folder, 30_000 if quick else 1_000_000, "ivf"), 5 if quick else 60)


def flat_qdrant(folder: Path, quick: bool) -> dict[str, object]:
    """The same vectors as in ``flat``, by udr and by Qdrant in turns."""
    return _filtered(_Pool(folder.parent / "flat", 20_000 if quick else 100_000, "flat"), 3 if quick else 20, _qdrant)


def ivf_qdrant(folder: Path, quick: bool) -> dict[str, object]:
    """The same vectors as in ``ivf``, by udr and by Qdrant in turns."""
    return _filtered(_Pool(folder.parent / "ivf", 30_000 if quick else 1_000_000, "ivf"), 3 if quick else 4, _qdrant)


class _Pool(NamedTuple):
    """A pool of generated vectors: where its index lies, how many rows it has, and its kind."""

    folder: Path
    rows: int
    kind: str


def _built(pool: _Pool) -> dict[str, object]:
    taken = seconds(lambda: _version(pool, MadeUpEncoder()))
    return {"rows": pool.rows, "kind": pool.kind, "seconds": round(taken, 1)}


def _filtered(pool: _Pool, queries: int, make_rival: "MakeRival | None" = None) -> dict[str, object]:
    encoder = MadeUpEncoder()
    version = _version(pool, encoder)
    faiss.omp_set_num_threads(1)
    vectors, rows = version.vectors(TASK), pool.rows
    asked = encoder.vectors(range(rows, rows + queries))
    parts = np.fromiter((part_of(number) for number in range(rows)), np.int64, rows)
    partition = version.manifest.partitions[TASK]
    result: dict[str, object] = {"rows": rows, "kind": partition.kind, "queries": queries}
    rival = None if make_rival is None else make_rival(vectors, parts, asked)
    with Retriever.open(pool.folder / "index", encoder=encoder, verify=False) as retriever:

        def ours(number: int, bound: int | None) -> list[int]:
            chosen = {} if bound is None else {"filter": f"part < {bound}"}
            found = retriever.retrieve(TASK, f"text {rows + number}", K, **chosen)
            return [int(item.id) for item in found]

        for bound in (None, *(round(share * PARTS) for share in SHARES)):
            passing = np.arange(rows) if bound is None else np.flatnonzero(parts < bound)
            line: dict[str, object] = {"passing": len(passing)}
            # The first request with a filter looks at all rows; those with a filter that is known do not.
            line["first_ms"] = round(1000 * seconds(lambda bound=bound: ours(0, bound)), 2)
            other, of = (ours, None) if rival is None else (rival, bound)
            turns = [(_timed(ours, n, bound), _timed(other, n, of)) for n in range(queries)]
            line["ms"] = median([1000 * turn[0][0] for turn in turns])
            best = [_best(vectors, passing, asked[n]) for n in range(queries)]
            line["recall"] = _recall(vectors, asked, best, [turn[0][1] for turn in turns])
            times = median(ratios(*zip(*((a[0], b[0]) for a, b in turns), strict=True)))
            if rival is None:
                line["times_unfiltered"] = times
            else:
                line["times_qdrant"] = times
                line["qdrant_ms"] = median([1000 * turn[1][0] for turn in turns])
                line["qdrant_recall"] = _recall(vectors, asked, best, [turn[1][1] for turn in turns])
            result["unfiltered" if bound is None else f"{bound / PARTS:.2%}"] = line
    return result


def _version(pool: _Pool, encoder: MadeUpEncoder) -> IndexVersion:
    """Return the index of the rows, built unless it is there; an IVF index is tuned to the recall."""
    folder, rows, kind = pool
    index, tuned = folder / "index", folder / "tuned"
    if not tuned.exists():
        tasks = write_rows(folder / "tasks", rows, lambda number: f"text {number}")
        build(BuildConfig(tasks=tasks, out=index, kind=kind, flat_below=0, label_head=False, export=False), encoder)
        version = open_version(index)
        if kind != "flat":
            faiss.omp_set_num_threads(1)
            best = tune(version, TASK, encoder.vectors(range(2 * rows, 2 * rows + 100)), RECALL, K)[-1]
            assert best.settings is not None
            write_settings(version.path, version.manifest, {TASK: best.settings})
        tuned.touch()
    return open_version(index)


def _timed(search: Search, number: int, bound: int | None) -> tuple[float, list[int]]:
    found: list[int] = []
    return seconds(lambda: found.extend(search(number, bound))), found


def _best(vectors: np.ndarray[Any, Any], passing: np.ndarray[Any, Any], query: Vectors) -> float:
    """Return the similarity of the last of the nearest, by exact search, as udr rounds it."""
    similarities = np.concatenate(
        [vectors[some] @ query for some in np.array_split(passing, 1 + len(passing) // 50_000)]
    )
    last = np.argsort(similarities)[-min(K, len(passing))]
    return _rounded(vectors[passing[last]], query)


def _rounded(vector: np.ndarray[Any, Any], query: Vectors) -> float:
    return float(np.round(vector.astype(np.float64) @ query.astype(np.float64), DECIMALS))


def _recall(vectors: np.ndarray[Any, Any], asked: Vectors, best: list[float], found: list[list[int]]) -> float:
    """Return the share of the nearest that were found; rows whose rounded similarities are equal are equally near."""
    shares = [
        sum(_rounded(vectors[place], asked[number]) >= best[number] for place in places) / K
        for number, places in enumerate(found)
    ]
    return round(float(np.mean(shares)), 4)


def _qdrant(vectors: np.ndarray[Any, Any], parts: np.ndarray[Any, Any], asked: Vectors) -> Search:
    """Return Qdrant's search of the same vectors in this process."""
    from qdrant_client import QdrantClient, models

    # It warns that so many points are better kept by a server.
    warnings.simplefilter("ignore")
    client = QdrantClient(":memory:")
    client.create_collection(
        TASK, vectors_config=models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE)
    )
    for start in range(0, len(vectors), _BATCH):
        stop = min(start + _BATCH, len(vectors))
        payloads = [{"part": int(part)} for part in parts[start:stop]]
        batch = models.Batch(ids=list(range(start, stop)), vectors=vectors[start:stop].tolist(), payloads=payloads)
        client.upsert(TASK, batch)

    def search(number: int, bound: int | None) -> list[int]:
        chosen = None
        if bound is not None:
            chosen = models.Filter(must=[models.FieldCondition(key="part", range=models.Range(lt=bound))])
        return [
            int(point.id) for point in client.query_points(TASK, asked[number], query_filter=chosen, limit=K).points
        ]

    return search
