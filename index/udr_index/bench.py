"""Measuring how well and how fast partitions are searched, and choosing the cheapest settings that find enough."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udr.data import field_texts, row_query, sample_by
from udr.errors import ConfigError, VerificationError
from udr.models import Encoder
from udr.search import (
    Chances,
    ExactLabelled,
    FaissGpu,
    FaissSearch,
    LabelHead,
    LabelledSearch,
    Searcher,
    Similarities,
    Vectors,
    find_gpu,
)
from udr.store import (
    FLAT,
    IndexVersion,
    Partition,
    SearchSettings,
    approximate,
    locked_current,
    open_searcher,
    read_settings,
    write_settings,
)
from udr_index.build import GRAPH, first_settings, lists_of


@dataclass(frozen=True, slots=True)
class Measurement:
    """The search of a task's partition: its settings, None if it is flat, and what ``measure`` returns.

    Of a task with a label head, which requests can leave out, it is measured with and without: the lower recall and the
    longer time count.
    """

    task: str
    kind: str
    settings: SearchSettings | None
    recall: float
    milliseconds: float


def settings_to_try(kind: str) -> list[SearchSettings]:
    """Return the settings to try for a kind, the cheapest first."""
    first, lists = first_settings(kind), lists_of(kind)
    if lists is not None:
        probes = [2**power for power in range(lists.bit_length()) if 2**power < lists] + [lists]
        return [
            SearchSettings(parameters=f"nprobe={probe}", oversample=factor * first.oversample)
            for factor in ((1, 4) if "PQ" in kind else (1,))
            for probe in probes
        ]
    if "HNSW" in kind or kind == GRAPH:
        efforts = (2**power for power in range(4, 11))
        return [SearchSettings(parameters=f"efSearch={effort}", oversample=first.oversample) for effort in efforts]
    return [SearchSettings(oversample=oversample) for oversample in (4, 16, 64)]


def bench(
    version: IndexVersion,
    encoder: Encoder,
    recall: float,
    *,
    k: int = 10,
    queries: int = 200,
    device: str | None = None,
    fp16: bool = False,
    choices: Callable[[str], Sequence[SearchSettings]] = settings_to_try,
    wait_seconds: float = 60,
) -> Iterator[Measurement]:
    """Measure each partition, and store the cheapest settings that reach a recall, or else the best.

    Args:
        version: the index version. The settings are stored in the version that is current by then.
        encoder: the encoder of the index.
        recall: the recall at k to reach.
        k: demonstrations per query.
        queries: the number of rows of each partition whose inputs are the queries.
        device: where to search.
        fp16: search a GPU's flat partitions in half the memory.
        choices: returns the settings to try for a kind, the cheapest first.
        wait_seconds: how long to wait for another command that holds the lock, before the settings are written.

    Raises:
        ConfigError: a number is out of range.
        ArtifactError: another command is running in the index; or a version that it is not measured for has become
            current.
    """
    if not 0 < recall <= 1 or k < 1 or queries < 1:
        raise ConfigError(
            f"the recall must be above 0 and at most 1, k and queries at least 1; found {recall}, {k}, {queries}"
        )
    version.manifest.encoder.check(encoder)
    gpu = find_gpu(device)
    for task, part in version.manifest.partitions.items():
        vectors, chances = _queries(version, task, encoder, queries)
        if part.kind == FLAT:
            searcher = open_searcher(version, task, SearchSettings(), gpu, fp16=fp16)
            exact = _exact(version, task, vectors, k, chances)
            yield Measurement(task, part.kind, None, *_measured(searcher, vectors, chances, exact))
        else:
            best = tune(version, task, vectors, recall, k, gpu, chances=chances, fp16=fp16, choices=choices)[-1]
            assert best.settings is not None
            with locked_current(version, [task], _searched, wait_seconds) as current:
                _store(current, task, best.settings)
            yield best


def _searched(part: Partition) -> object:
    return part.kind, part.label_head is None


def _exact(version: IndexVersion, task: str, queries: Vectors, k: int, chances: Chances | None) -> list[Similarities]:
    """Return what ``exact_values`` does of plain queries, and with the label head if the task has one."""
    vectors, head = version.vectors(task), version.label_head(task)
    plain = exact_values(vectors, queries, k)
    return [plain] if chances is None else [plain, exact_values(vectors, queries, k, head, chances)]


def _measured(
    searcher: Searcher, queries: Vectors, chances: Chances | None, exact: Sequence[Similarities]
) -> tuple[float, float]:
    """Return the lower recall and the longer milliseconds of both kinds of queries in ``exact``."""
    kinds = [(searcher, queries)]
    if isinstance(searcher, LabelledSearch) and chances is not None:
        kinds.append((searcher.labelled, searcher.head.extend(queries, chances)))
    recalls, milliseconds = zip(*(measure(*kind, own) for kind, own in zip(kinds, exact, strict=True)), strict=True)
    return min(recalls), max(milliseconds)


def _queries(version: IndexVersion, task: str, encoder: Encoder, count: int) -> tuple[Vectors, Chances | None]:
    """Return the vectors of rows of a task as queries, and their labels' probabilities if it has a label head."""
    part, head = version.manifest.partitions[task], version.label_head(task)
    with closing(version.demonstrations()) as table:
        rows = list(table.rows(task, sorted(sample_by(range(part.count), count, 0, str))))
    queries = encoder.encode_queries([row_query(part.task, row) for row in rows])
    if head is None:
        return queries, None
    texts = [text for row in rows for text in field_texts(row.input, head.fields, row.choices)]
    fields = encoder.encode_queries(texts).reshape(len(rows), len(head.fields), -1) if texts else None
    return queries, head.probabilities(queries, fields)


def _store(version: IndexVersion, task: str, settings: SearchSettings) -> None:
    # Read now: another bench may have written since this one began.
    try:
        stored = read_settings(version.path, version.manifest)
    except VerificationError:
        kinds = {name: version.manifest.partitions[name].kind for name in approximate(version.manifest)}
        stored = {name: first_settings(kind) for name, kind in kinds.items()}
    write_settings(version.path, version.manifest, stored | {task: settings})


def tune(
    version: IndexVersion,
    task: str,
    queries: Vectors,
    recall: float,
    k: int,
    gpu: FaissGpu | None = None,
    *,
    chances: Chances | None = None,
    fp16: bool = False,
    choices: Callable[[str], Sequence[SearchSettings]] = settings_to_try,
) -> list[Measurement]:
    """Try settings for a task's partition, the cheapest first, until one reaches the recall.

    The queries are float32 [num_queries, dimension], and ``chances`` are those of their labels, [num_queries,
    num_labels], if the task has a label head; the other arguments are those of ``bench``.

    Returns:
        What was tried; the last is the one that reached the recall, or the best of all.
    """
    kind = version.manifest.partitions[task].kind
    exact = _exact(version, task, queries, k, chances)
    tried: list[Measurement] = []
    for settings in choices(kind):
        # A GPU that does not support a setting would fall back to the CPU, whose time means nothing here.
        if gpu is not None and not gpu.supports(settings.parameters):
            continue
        searcher = open_searcher(version, task, settings, gpu, fp16=fp16)
        tried.append(Measurement(task, kind, settings, *_measured(searcher, queries, chances, exact)))
        if tried[-1].recall >= recall:
            return tried
    # Sorting is stable: only the best moves, to the end.
    best = max(tried, key=lambda measurement: (measurement.recall, -measurement.milliseconds))
    return sorted(tried, key=lambda measurement: measurement is best)


def measure(searcher: Searcher, queries: Vectors, exact: Similarities) -> tuple[float, float]:
    """Search one query at a time; return the share of the k nearest that was found, and the median milliseconds.

    Args:
        searcher: the search.
        queries: float32 [num_queries, dimension].
        exact: the similarities of their k nearest, [num_queries, k], best first.
    """
    k = exact.shape[1]
    seconds, recalls = [], []
    for query, expected in zip(queries, exact, strict=True):
        started = time.perf_counter()
        _, similarities = searcher.search(query[None], k)
        seconds.append(time.perf_counter() - started)
        # Compared by similarity, so that any of several equal demonstrations counts.
        recalls.append(np.mean(similarities[0] >= expected[-1]))
    return float(np.mean(recalls)), 1000 * statistics.median(seconds)


def exact_values(
    vectors: NDArray[np.floating],
    queries: Vectors,
    k: int,
    head: LabelHead | None = None,
    chances: Chances | None = None,
) -> Similarities:
    """Return the numbers that rank the k first vectors of each query, [num_queries, k], best first.

    They are similarities, or what a label head makes of them.
    """
    if head is not None and chances is not None:
        return ExactLabelled(vectors, head).search(head.extend(queries, chances), k)[1]
    return FaissSearch(vectors).search(queries, k)[1]
