"""Evaluation: a language model's task metric with each retriever's demonstrations."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from udr import __version__
from udr.data import Collection, Kind, Pool, Task, TaskFolder, formatting, pool_digest, rows_digest, sample
from udr.types import Json, Row
from udr_training.evaluation.bootstrap import RESAMPLES, Estimate, estimate
from udr_training.evaluation.config import EvaluationConfig
from udr_training.evaluation.metrics import judge
from udr_training.evaluation.predict import AnsweringLM, predict
from udr_training.evaluation.predictions import NO_RETRIEVER, Answer, AnswerStore, Cell, claim
from udr_training.evaluation.results import Evaluation, TaskResult
from udr_training.evaluation.retrievers import ComparedRetriever, load_retrievers
from udr_training.feedback import Progress

_LOG = logging.getLogger(__name__)

_BLOCK = {Kind.CLASSIFICATION: 128, Kind.MULTIPLE_CHOICE: 128, Kind.GENERATION: 64}
"""Test rows answered between writes: enough to fill packs, few enough to lose; generation takes longer."""


def evaluate(
    collection: Collection,
    lm: AnsweringLM,
    config: EvaluationConfig,
    *,
    output: Path | None = None,
    report: Callable[[TaskResult], None] = lambda _: None,
    progress: Callable[[str, Progress], None] = lambda *_: None,
) -> Evaluation:
    """Compare retrievers on the same test rows with the same language model.

    Args:
        collection: the tasks.
        lm: answers the prompts.
        config: what is compared, on how much.
        output: a folder that keeps the answers as they come; one that was killed goes on. None keeps nothing.
        report: told each result as it comes.
        progress: told how far the oracle's scoring is.

    Raises:
        ConfigError: a run is not finished, or the folder belongs to another evaluation.
        ModelError: a name leads to no encoder.
        DataError: a task has no test rows.
    """
    # All is loaded first, so that a wrong name or row is an error before the hours, not after.
    scores = output / "oracle.sqlite" if output is not None else None
    retrievers = load_retrievers(config, lm, scores, progress)
    settings = _settings(lm, config)
    tests = [_Test.cut(folder, config, settings) for folder in collection.tasks.values()]
    if output is not None:
        claim(output, settings)
    store = AnswerStore(output)
    results = []
    for test in tests:
        compared = [_Answers(lm, test, retriever, max(config.shots), store) for retriever in retrievers]
        for shots in config.shots:
            for answers in compared:
                result = answers.result(shots, config.seed)
                report(result)
                results.append(result)
    facts: dict[str, Json] = {
        "udr": __version__,
        "lm_name": lm.name,
        **settings,
        "shots": config.shots,
        "resamples": RESAMPLES,
        "oracle_candidates": config.oracle_candidates,
        "oracle_context": config.oracle_context,
        "task_folder": str(collection.root),
        "retrievers": {retriever.name: retriever.identity for retriever in retrievers},
        "tasks": {test.pool.task.name: {"pool": len(test.pool), "test_rows": len(test.queries)} for test in tests},
    }
    return Evaluation(config.labels, config.shots, config.compared_with(), tuple(results), facts)


def _settings(lm: AnsweringLM, config: EvaluationConfig) -> dict[str, Json]:
    """Return what all answers of an evaluation have in common."""
    return {
        "lm": lm.fingerprint,
        "lm_dtype": lm.dtype,
        "lm_wording": formatting.LM_WORDING,
        "limit": config.limit,
        "pool": config.pool,
        "seed": config.seed,
    }


@dataclass(frozen=True, slots=True)
class _Test:
    """A task, and the rows of it that are asked.

    Attributes:
        made_from: what their answers depend on, whatever is shown.
    """

    pool: Pool
    queries: tuple[Row, ...]
    made_from: Mapping[str, Json]

    @staticmethod
    def cut(folder: TaskFolder, config: EvaluationConfig, settings: Mapping[str, Json]) -> "_Test":
        pool = folder.pool(config.pool, config.seed)
        queries = tuple(sample(folder.rows("test"), config.limit, config.seed))
        rows = {"pool_rows": pool_digest(pool), "test_rows": rows_digest(queries)}
        return _Test(pool, queries, {"udr": __version__, **settings, **rows})


class _Answers:
    """One retriever on one task: its demonstrations are looked for once, and only if an answer is missing."""

    def __init__(
        self, lm: AnsweringLM, test: _Test, retriever: ComparedRetriever, most_shots: int, store: AnswerStore
    ) -> None:
        self._lm, self._test, self._retriever = lm, test, retriever
        self._most_shots, self._store = most_shots, store

    def result(self, shots: int, seed: int) -> TaskResult:
        """Return what the retriever reaches with so many demonstrations a prompt; the seed is the bootstrap's."""
        pool, queries = self._test.pool, self._test.queries
        task, texts = pool.task, [answer.text for answer in self._answers(shots)]
        value = task_estimate(task, queries, texts, seed)
        return TaskResult(task.name, task.family, task.metric.value, self._retriever.name, shots, len(queries), value)

    def _answers(self, shots: int) -> list[Answer]:
        pool, queries, cell = self._test.pool, self._test.queries, self._cell(shots)
        answers = list(self._store.read(cell))
        if 0 < len(answers) < len(queries):
            message = "%s, %s, %d shots: goes on after %d of %d answers"
            _LOG.info(message, cell.task, cell.retriever, shots, len(answers), len(queries))
        block = _BLOCK[pool.task.kind]
        # Whole blocks are kept: one that goes on asks for the same ones as one that was never killed.
        for first in range(len(answers), len(queries), block):
            part = queries[first : first + block]
            shown = [self._found[query.id][:shots] if shots else [] for query in part]
            for query, rows, said in zip(part, shown, predict(self._lm, pool, part, shown), strict=True):
                answers.append(Answer(query.id, tuple(row.id for row in reversed(rows)), said))
            self._store.write(cell, answers)
        return answers

    @cached_property
    def _found(self) -> dict[str, list[Row]]:
        found = self._retriever.demonstrations(self._test.pool, self._test.queries, self._most_shots)
        return {query.id: rows for query, rows in zip(self._test.queries, found, strict=True)}

    def _cell(self, shots: int) -> Cell:
        name, identity = (self._retriever.name, self._retriever.identity) if shots else (NO_RETRIEVER, {})
        made_from = {**self._test.made_from, "retriever": identity}
        return Cell(self._test.pool.task.name, name, shots, made_from)


def task_estimate(task: Task, queries: Sequence[Row], predictions: Sequence[str], seed: int) -> Estimate:
    """Return how good answers are by the task's metric, with its bootstrap.

    Args:
        task: the task.
        queries: the rows that were asked.
        predictions: the answer to each.
        seed: of the bootstrap.
    """
    judged = judge(task.metric)
    sources = [formatting.input_words(task, row.input, row.choices) for row in queries]
    golds = [row.references or (row.target,) for row in queries]
    statistics = np.stack([judged.statistics(*answer) for answer in zip(predictions, golds, sources, strict=True)])
    return estimate(judged, statistics, task.name, seed)
