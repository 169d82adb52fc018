"""How well a language model answers after the demonstrations that a weight gives."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from udr.data import Kind, Task, query_fields
from udr.errors import ConfigError
from udr.retrieval import Retriever
from udr.types import Row
from udr_training.answering import check_metric, is_remote
from udr_training.feedback.export import refuse_other_lm, scored_by, scored_tasks, scored_with
from udr_training.feedback.local import WrittenMetric, opened_lm
from udr_training.feedback.pairs import Pair, TrainingTask, basis_of, pair_keys
from udr_training.feedback.scoring import FeedbackLM, PairScorer, Progress, ScatteredLM, pair_score, score_pairs
from udr_training.feedback.store import FeedbackStore
from udr_training.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class SetQuestion:
    """What the language model of a run is asked: to answer queries, each after a whole prompt's demonstrations.

    One demonstration's score does not tell that of several together; this asks about these. An answer to a generation
    task is written, and has the task's metric; one of another task has the score of its target, as in the feedback.

    Attributes:
        queries: how many rows of each pool to ask about, at most; training has learned from none of them.
        shots: how many demonstrations are shown, the nearest last; fewer if the index has fewer.
        on_progress: called with a task's name and its progress.
    """

    queries: int
    shots: int = 4
    on_progress: Callable[[str, Progress], None] = lambda *_: None

    def __post_init__(self) -> None:
        for name, value in {"queries": self.queries, "shots": self.shots}.items():
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, found {value}")

    def measure(self, task: Task) -> str:
        """Return what tells how well the model answers: the metric of a generation task, or ``score``."""
        return task.metric.value if task.kind is Kind.GENERATION else "score"

    def check(self, folder: RunFolder) -> None:
        """Raise a ``ConfigError`` if the run's language model is a server's, before anything is read or loaded."""
        config = scored_by(folder)
        if not config.is_told and is_remote(config.lm):
            raise ConfigError(
                f"{folder.path}: its scores are those of a server, whose answers may cost money; omit --queries, which "
                "asks a language model in this process"
            )

    def values(
        self,
        folder: RunFolder,
        retriever: Retriever,
        learned: Mapping[str, Collection[str]],
        weights: Sequence[float],
    ) -> dict[str, NDArray[np.float64]]:
        """Return the measures after the demonstrations of each weight, [queries, weights], by task; see ``check``.

        They are kept in the run's file of scores, so what was asked once is not asked again.

        Args:
            folder: the run.
            retriever: the index.
            learned: the tasks, and the ids of the queries that were learned from.
            weights: of the encoder in hybrid searches.

        Raises:
            ArtifactError: the run's tasks or its language model have changed.
            MissingExtraError: a task's metric needs a package that is not installed.
        """
        refuse_other_lm(folder)
        tasks = {name: task for name, task in scored_tasks(folder).items() if name in learned}
        for task in tasks.values():
            check_metric(task.pool.task.metric)
        rows = {name: task.unasked(learned[name], self.queries) for name, task in tasks.items()}
        values = {}
        with opened_lm(scored_by(folder)) as lm:
            for name, task in tasks.items():
                metric = WrittenMetric(lm, task.pool) if task.pool.task.kind is Kind.GENERATION else None
                with scored_with(folder, metric) as store:
                    values[name] = self._values(metric or lm, store, task, rows[name], retriever, weights)
        return values

    def _values(
        self,
        lm: FeedbackLM | ScatteredLM | PairScorer,
        store: FeedbackStore,
        task: TrainingTask,
        rows: Sequence[Row],
        retriever: Retriever,
        weights: Sequence[float],
    ) -> NDArray[np.float64]:
        pairs = [self._shown(task, row, retriever, weight) for row in rows for weight in weights]
        score_pairs(lm, store, pairs, partial(self.on_progress, task.pool.task.name))
        keys = pair_keys(pairs)
        stored = store.get(set(keys))
        scores = [pair_score(pair, stored[key]) for pair, key in zip(pairs, keys, strict=True)]
        return np.array(scores).reshape(len(rows), len(weights))

    def _shown(self, task: TrainingTask, row: Row, retriever: Retriever, weight: float) -> Pair:
        """Return a row after the demonstrations of a weight, as a pair with a context."""
        own = task.pool.task
        k = min(self.shots, retriever.sizes[own.name])
        found = retriever.retrieve(own.name, query_fields(own, row), k, mode="hybrid", weight=weight)
        if not found:
            raise ConfigError(f"the index has no demonstration of {own.name!r} to show for the row {row.id!r}")
        *context, nearest = (retriever.demonstration(own.name, item.id) for item in reversed(found))
        basis = basis_of(own, row, [], "metric") if own.kind is Kind.GENERATION else ""
        return Pair(own, row, nearest, tuple(context), basis)
