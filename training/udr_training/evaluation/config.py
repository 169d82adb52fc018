"""The configuration of an evaluation, and its test rows."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from udr.data import Collection
from udr.errors import ConfigError, DataError, ModelError
from udr.models import locate_encoder
from udr_training.answering import check_metric
from udr_training.evaluation.retrievers import (
    BM25,
    ORACLE,
    RANDOM,
    RetrieverName,
    index_of,
    is_service,
    model_of,
    parse_name,
    short_names,
    source_of,
)

FOLDER = "report"
"""The evaluation's directory in a run directory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """How retrievers are compared.

    Attributes:
        retrievers: ``random``, ``oracle``, a mode (``bm25``, ``dense``, ``hybrid``: by the default encoder), names of
            encoders, run directories, index directories, URLs of services; those that search with options of a
            retrieval, and ``order``: ``NAME?option=value&option=value``.
        shots: numbers of demonstrations per prompt; each is a separate evaluation.
        baseline: the retriever that gains are relative to, by its full or short name; None means BM25, or the first
            retriever if BM25 is not compared.
        limit: test rows per task, sampled by seed; None for all.
        pool: rows per pool, sampled by seed; None for all.
        seed: of samples, random demonstrations and the bootstrap.
        oracle_candidates: K, candidates that the oracle scores per test row.
        oracle_context: demonstrations shown before each candidate while it is scored.
        parsed: the retrievers' names and options.

    Raises:
        ConfigError: a value is invalid, or does not fit another.
    """

    retrievers: tuple[str, ...]
    shots: tuple[int, ...] = (4,)
    baseline: str | None = None
    limit: int | None = None
    pool: int | None = None
    seed: int = 0
    oracle_candidates: int = 12
    oracle_context: int = 0
    parsed: tuple[RetrieverName, ...] = field(init=False)

    def __post_init__(self) -> None:
        if not self.retrievers:
            raise ConfigError("there are no retrievers; name random, bm25, oracle, an encoder, a run or an index")
        if not self.shots or min(self.shots) < 0 or len(set(self.shots)) < len(self.shots):
            listed = ", ".join(map(str, self.shots)) or "none"
            raise ConfigError(f"shots must be different numbers of at least 0, found {listed}")
        parsed = tuple(parse_name(name, max(self.shots)) for name in self.retrievers)
        object.__setattr__(self, "parsed", parsed)
        for number, retriever in enumerate(parsed):
            if retriever.same in (other.same for other in parsed[:number]):
                raise ConfigError(f"the retriever {retriever.name!r} is named twice")
        minima = {"limit": 1, "pool": 1, "seed": 0, "oracle_candidates": 1, "oracle_context": 0}
        for setting, minimum in minima.items():
            value = getattr(self, setting)
            if value is not None and value < minimum:
                raise ConfigError(f"{setting} must be at least {minimum}, found {value}")
        if ORACLE in self.retrievers and max(self.shots) > self.oracle_candidates:
            raise ConfigError(
                f"the oracle shows the best of {self.oracle_candidates} candidates, but {max(self.shots)} "
                "shots are requested; give more --oracle-candidates or fewer --shots"
            )
        self.compared_with()

    @property
    def labels(self) -> dict[str, str]:
        """The retrievers' short names by their full names, in the order given."""
        return short_names(self.retrievers)

    def compared_with(self) -> str:
        """Return the baseline's full name.

        Raises:
            ConfigError: the baseline is not one of the retrievers.
        """
        if self.baseline is None:
            return BM25 if BM25 in self.retrievers else self.retrievers[0]
        for name, label in self.labels.items():
            if self.baseline in (name, label):
                return name
        raise ConfigError(
            f"the baseline {self.baseline!r} is not one of the retrievers {', '.join(self.labels.values())}"
        )


def check_retrievers(names: Sequence[str]) -> None:
    """Check that every retriever can be found; nothing is loaded.

    Raises:
        ConfigError: a run is not finished.
        ModelError: there is no encoder of a name.
    """
    for name in names:
        if index_of(name) is None and not is_service(name) and source_of(name) not in (RANDOM, ORACLE):
            try:
                locate_encoder(model_of(name))
            except ModelError as error:
                raise ModelError(f"--retrievers: {error}") from error


def check_tasks(collection: Collection, shots: int, *, pool: int | None = None) -> None:
    """Check that tasks can be evaluated: their rows, and their metrics' packages.

    Raises:
        DataError: a task has no test rows, or a row is invalid.
        ConfigError: a pool has fewer rows than demonstrations are requested.
        MissingExtraError: a metric's package is not installed.
    """
    if lacking := untested(collection):
        raise DataError(f"no test rows in {', '.join(lacking)}; {how_to_split(collection, lacking)}")
    for name, folder in collection.tasks.items():
        check_metric(folder.task.metric)
        rows = len(folder.pool(pool))
        if shots > rows:
            raise ConfigError(f"--shots asks for {shots} demonstrations, but task {name!r} has {rows} in its pool")
        folder.rows("test")


def untested(collection: Collection) -> list[str]:
    """Return the tasks without test rows."""
    return [name for name, folder in collection.tasks.items() if not folder.files("test")]


def how_to_split(collection: Collection, tasks: Sequence[str]) -> str:
    """Return the command that holds out test rows of tasks, as the end of a message."""
    chosen = "" if len(tasks) == len(collection.tasks) else f" --tasks {','.join(tasks)}"
    return f"hold some out of train with: udr tasks split {shlex.quote(str(collection.root))}{chosen}"


@dataclass(frozen=True, slots=True)
class RowCounts:
    """The rows of a task: the test rows that are used, all of them, and the pool."""

    used: int
    test: int
    pool: int


def count_rows(collection: Collection, limit: int | None) -> dict[str, RowCounts]:
    """Count the rows of the tasks that have test rows; ``limit`` is the most test rows of each that are used."""
    counts = {}
    for name, folder in collection.tasks.items():
        if folder.files("test"):
            test = len(folder.rows("test"))
            counts[name] = RowCounts(min(test, limit or test), test, len(folder.rows("train")))
    return counts


def how_to_use_more(root: str | Path, counts: Mapping[str, RowCounts], needed: int, use_all: str) -> str:
    """Return what to do to evaluate on more test rows, as the end of a message.

    Args:
        root: the folder of tasks.
        counts: by task.
        needed: the test rows that all tasks together should have.
        use_all: the command or the option that uses the test rows that were left out.
    """
    if left_out := sum(count.test - count.used for count in counts.values()):
        rows = "1 test row is" if left_out == 1 else f"{left_out:,} test rows are"
        return f"{rows} left out; to use them: {use_all}"
    each = math.ceil(needed / max(len(counts), 1))
    short = {name: count for name, count in counts.items() if count.test < each}
    # A pool should not become smaller than the test.
    if all(count.test + count.pool >= 2 * each for count in short.values()):
        folder, names = shlex.quote(str(root)), ",".join(short)
        return f"to hold out more: udr tasks split {folder} --tasks {names} --test-rows {each}"
    return f"that takes more rows than there are: add some to {' and '.join(short)}"
