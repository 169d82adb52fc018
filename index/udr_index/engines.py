"""Measuring the engines that can encode an index's queries on this processor: how fast, and how true to float32."""

import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain, zip_longest

import numpy as np

from udr.data import row_query, sample_by
from udr.errors import ArtifactError, ConfigError
from udr.models import EXACT, INT8, RUNTIMES, OnnxEncoder, Runtime
from udr.search import ExactSearch, Vectors, unit_vectors
from udr.store import IndexVersion, exported_encoder

NEAREST, BATCH = 8, 64


@dataclass(frozen=True, slots=True)
class EngineMeasurement:
    """An engine on this processor.

    Attributes:
        engine: its name, for ``udr serve --engine``.
        texts_a_second: in batches of ``BATCH``.
        milliseconds: for one text alone.
        gain: its rate in batches beside that of ``onnx``; the median of the rounds' ratios.
        agreement: the cosine of a query's vector with that of ``onnx``, on average.
        worst: the lowest of these.
        shared: the share of the ``NEAREST`` demonstrations of a query's task that ``onnx`` finds, too.
    """

    engine: Runtime
    texts_a_second: float
    milliseconds: float
    gain: float
    agreement: float
    worst: float
    shared: float


def bench_engines(version: IndexVersion, *, queries: int = 200, rounds: int = 5) -> list[EngineMeasurement]:
    """Measure each engine that an index can be served with here; the first is ``onnx``.

    Args:
        version: the index version, which carries its encoder.
        queries: how many rows' inputs are the queries, spread over the tasks.
        rounds: batches that each engine encodes, in turn with the others; ten times as many single texts.

    Raises:
        ArtifactError: the version carries no encoder, or onnxruntime cannot open it.
        ConfigError: a number is out of range.
    """
    if queries < 1 or rounds < 1:
        raise ConfigError(f"queries and rounds must be at least 1; found {queries} and {rounds}")
    if not version.has_export:
        remedy = f"run: udr index export-encoder {version.root}"
        raise ArtifactError(f"{version.path}: carries no encoder whose engines could be compared; {remedy}")
    engines = {name: _opened(version, name) for name in RUNTIMES if name == EXACT or is_available(version, name)}
    tasks, texts = zip(*_queries(version, queries), strict=True)
    vectors = {name: encoder.encode_queries(texts) for name, encoder in engines.items()}
    nearest = {name: _nearest(version, tasks, found) for name, found in vectors.items()}
    batches = _in_turn(engines, [_cycled(texts, start, BATCH) for start in range(rounds)])
    alone = _in_turn(engines, [_cycled(texts, start, 1) for start in range(10 * rounds)])
    result = []
    for name in engines:
        cosines = (unit_vectors(vectors[EXACT]) * unit_vectors(vectors[name])).sum(axis=1)
        pairs = zip(nearest[EXACT], nearest[name], strict=True)
        result.append(
            EngineMeasurement(
                engine=name,
                texts_a_second=BATCH / statistics.median(batches[name]),
                milliseconds=1000 * statistics.median(alone[name]),
                gain=statistics.median(
                    first / second for first, second in zip(batches[EXACT], batches[name], strict=True)
                ),
                agreement=float(cosines.mean()),
                worst=float(cosines.min()),
                shared=float(np.mean([len(exact & found) / len(exact) for exact, found in pairs])),
            )
        )
    return result


def is_available(version: IndexVersion, engine: Runtime) -> bool:
    """Return whether an index can be served with an engine here: it carries the graph, and the runtime is installed."""
    if engine == INT8:
        return version.has_int8
    return find_spec("openvino" if engine == "openvino" else "onnxruntime") is not None


def _opened(version: IndexVersion, engine: Runtime) -> OnnxEncoder:
    encoder = exported_encoder(version, "cpu", engine)
    if encoder is None:
        raise ArtifactError(f"{version.path}: its encoder cannot be opened for engine {engine!r}; see the warning")
    return encoder


def _queries(version: IndexVersion, count: int) -> list[tuple[str, str]]:
    """Return (task, text for the encoder) of rows, from each task in turn."""
    by_task = []
    with closing(version.demonstrations()) as table:
        for name, part in version.manifest.partitions.items():
            positions = sorted(sample_by(range(part.count), count, 0, str))
            by_task.append([(name, row_query(part.task, row)) for row in table.rows(name, positions)])
    return [query for query in chain.from_iterable(zip_longest(*by_task)) if query is not None][:count]


def _nearest(version: IndexVersion, tasks: Sequence[str], vectors: Vectors) -> list[set[int]]:
    searchers = {task: ExactSearch(version.vectors(task)) for task in set(tasks)}
    found = [
        searchers[task].search(vector[None], min(NEAREST, len(searchers[task])))[0][0]
        for task, vector in zip(tasks, vectors, strict=True)
    ]
    return [set(positions.tolist()) for positions in found]


def _cycled(texts: Sequence[str], start: int, count: int) -> list[str]:
    return [texts[(start + number) % len(texts)] for number in range(count)]


def _in_turn(engines: dict[Runtime, OnnxEncoder], inputs: Sequence[Sequence[str]]) -> dict[Runtime, list[float]]:
    """Return the seconds of each engine for each input; the engines take turns, after a warm-up."""
    seconds: dict[Runtime, list[float]] = {name: [] for name in engines}
    for texts in [inputs[0], *inputs]:
        for name, encoder in engines.items():
            started = time.perf_counter()
            encoder.encode_queries(texts)
            seconds[name].append(time.perf_counter() - started)
    return {name: values[1:] for name, values in seconds.items()}
