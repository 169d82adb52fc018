"""How well and how fast partitions are searched, and the cheapest settings that find enough."""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udr.data import row_query, sample_by
from udr.errors import ConfigError, VerificationError
from udr.models import Encoder
from udr.search import FaissGpu, FaissSearch, Searcher, Similarities, Vectors, find_gpu
from udr.store import FLAT, IndexVersion, SearchSettings, approximate, open_searcher, read_settings, write_settings
from udr_index.build import GRAPH, first_settings, lists_of
from udr_index.lock import alone

_EFFORTS = (16, 32, 64, 128, 256, 512, 1024)
"""Candidates that a graph's search keeps."""

_WAIT_SECONDS = 60
"""For another command at work in the index, when settings that took long to measure are to be written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What a partition's search was found to be worth with some settings.

    Attributes:
        task: the task.
        kind: of its partition.
        settings: how it was searched; None where it is flat.
        recall: of the k nearest demonstrations, the share that was found.
        milliseconds: of one query alone, the median.
    """

    task: str
    kind: str
    settings: SearchSettings | None
    recall: float
    milliseconds: float


def bench(
    version: IndexVersion,
    encoder: Encoder,
    recall: float,
    *,
    k: int = 10,
    queries: int = 200,
    device: str | None = None,
    fp16: bool = False,
) -> Iterator[Measured]:
    """Measure each partition, and keep the cheapest settings that reach a recall, or else the best.

    The queries are the inputs of rows of the partition, worded and encoded as queries are.

    Args:
        version: the index version; its ``search.json`` is replaced.
        encoder: the encoder that made it.
        recall: to reach, at k.
        k: demonstrations of a query.
        queries: how many of them, by seed.
        device: where to search.
        fp16: search a GPU's flat partitions in half the memory; see ``udr.engines.open_searchers``.

    Yields:
        One for each partition, with the settings that are kept.

    Raises:
        ConfigError: a number is out of range.
        ArtifactError: another command is at work in the index, and goes on for long.
    """
    if not 0 < recall <= 1 or k < 1 or queries < 1:
        raise ConfigError(
            f"the recall must be above 0 and at most 1, k and queries at least 1; found {recall}, {k}, {queries}"
        )
    version.manifest.encoder.check(encoder)
    gpu = find_gpu(device)
    for task, part in version.manifest.partitions.items():
        vectors = encoder.encode_queries(_texts(version, task, queries))
        if part.kind == FLAT:
            searcher = open_searcher(version, task, SearchSettings(), gpu, fp16=fp16)
            yield measure(searcher, task, part.kind, None, vectors, exact_values(version.vectors(task), vectors, k))
        else:
            best = tune(version, task, vectors, recall, k, gpu, fp16=fp16)[-1]
            assert best.settings is not None
            _keep(version, task, best.settings)
            yield best


def _keep(version: IndexVersion, task: str, settings: SearchSettings) -> None:
    with alone(version.path.parent.parent, _WAIT_SECONDS):
        # Read again: another bench may have written meanwhile.
        try:
            kept = read_settings(version.path, version.manifest)
        except VerificationError:
            kinds = {name: version.manifest.partitions[name].kind for name in approximate(version.manifest)}
            kept = {name: first_settings(kind) for name, kind in kinds.items()}
        write_settings(version.path, version.manifest, kept | {task: settings})


def tune(
    version: IndexVersion,
    task: str,
    queries: Vectors,
    recall: float,
    k: int,
    gpu: FaissGpu | None = None,
    *,
    fp16: bool = False,
) -> list[Measured]:
    """Try settings from the cheapest on until one reaches the recall; the last is that one, or the best of all.

    Args:
        version: the index version.
        task: whose partition.
        queries: float32 [num_queries, dimension].
        recall: to reach, at k.
        k: demonstrations of a query.
        gpu: where to search; None searches on the CPU.
        fp16: see ``bench``.
    """
    kind = version.manifest.partitions[task].kind
    exact = exact_values(version.vectors(task), queries, k)
    tried: list[Measured] = []
    for settings in efforts(kind):
        # It would be searched on the CPU instead, and another time be measured.
        if gpu is not None and not gpu.takes(settings.parameters):
            continue
        searcher = open_searcher(version, task, settings, gpu, fp16=fp16)
        tried.append(measure(searcher, task, kind, settings, queries, exact))
        if tried[-1].recall >= recall:
            return tried
    best = max(tried, key=lambda one: (one.recall, -one.milliseconds))
    return [*(one for one in tried if one is not best), best]


def measure(
    searcher: Searcher,
    task: str,
    kind: str,
    settings: SearchSettings | None,
    queries: Vectors,
    exact: Similarities,
) -> Measured:
    """Return what a search finds of the nearest, one query at a time, and how long one takes.

    Args:
        searcher: the search.
        task: for the record.
        kind: for the record.
        settings: for the record.
        queries: float32 [num_queries, dimension].
        exact: the similarities of their k nearest, [num_queries, k], best first.
    """
    k = exact.shape[1]
    seconds, shares = [], []
    for query, values in zip(queries, exact, strict=True):
        started = time.perf_counter()
        _, found = searcher.search(query[None], k)
        seconds.append(time.perf_counter() - started)
        # By similarity, so that one of several equals counts whichever it is.
        shares.append(np.mean(found[0] >= values[-1]))
    milliseconds = 1000 * statistics.median(seconds)
    return Measured(task=task, kind=kind, settings=settings, recall=float(np.mean(shares)), milliseconds=milliseconds)


def exact_values(vectors: NDArray[np.floating], queries: Vectors, k: int) -> Similarities:
    """Return the similarities of the k nearest vectors of each query, [num_queries, k], best first."""
    _, values = FaissSearch(vectors).search(queries, k)
    return values


def efforts(kind: str) -> list[SearchSettings]:
    """Return the settings that are tried for a kind, the cheapest first."""
    first = first_settings(kind)
    lists = lists_of(kind)
    if lists is not None:
        probes = [2**power for power in range(lists.bit_length()) if 2**power < lists] + [lists]
        deeper = (first.oversample, 4 * first.oversample) if "PQ" in kind else (first.oversample,)
        return [
            SearchSettings(parameters=f"nprobe={probe}", oversample=oversample)
            for oversample in deeper
            for probe in probes
        ]
    if "HNSW" in kind or kind == GRAPH:
        return [SearchSettings(parameters=f"efSearch={effort}", oversample=first.oversample) for effort in _EFFORTS]
    return [SearchSettings(oversample=oversample) for oversample in (4, 16, 64)]


def _texts(version: IndexVersion, task: str, count: int) -> Sequence[str]:
    part = version.manifest.partitions[task]
    with closing(version.demonstrations()) as table:
        positions = sorted(sample_by(range(part.count), count, 0, str))
        return [row_query(part.task, row) for row in table.rows(task, positions)]


def not_reached(measured: Sequence[Measured], recall: float) -> list[str]:
    """Return the tasks whose search did not reach the recall."""
    return [one.task for one in measured if one.recall < recall]
