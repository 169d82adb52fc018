"""Evaluation: a language model's task metric with each retriever's demonstrations."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product
from pathlib import Path

import numpy as np

from udr import __version__
from udr.data import Collection, Kind, Pool, Task, TaskFolder, formatting, pool_digest, rows_digest, sample
from udr.errors import PartialError, listed
from udr.types import Json, Row
from udr_training.answering import READING, Parsing, judge
from udr_training.evaluation.answers import (
    NO_RETRIEVER,
    Answer,
    Answering,
    AnsweringLM,
    AnsweringModel,
    AnswerStore,
    Cell,
    LocalModel,
    ServerModel,
    claim,
)
from udr_training.evaluation.config import EvaluationConfig
from udr_training.evaluation.intervals import RESAMPLES, Estimate, estimate
from udr_training.evaluation.results import Evaluation, TaskResult
from udr_training.evaluation.retrievers import ORACLE, ComparedRetriever, Oracle, Shown, open_retriever
from udr_training.feedback import OnProgress, Progress

_LOG = logging.getLogger(__name__)

# Test rows answered between writes: enough to fill packs, few enough to lose; generation takes longer.
_BLOCK, _GENERATION_BLOCK = 128, 64


def evaluate(
    collection: Collection,
    lm: AnsweringLM | ServerModel,
    config: EvaluationConfig,
    *,
    output: Path | None = None,
    report: Callable[[TaskResult], None] = lambda _: None,
    progress: OnProgress = lambda *_: None,
    block: int | None = None,
    processes: int = 1,
) -> Evaluation:
    """Compare retrievers on the same test rows with the same language model.

    Args:
        collection: the tasks.
        lm: the language model that answers, in this process or behind a server.
        config: the retrievers and the size of the evaluation.
        output: the directory of the answers, from which an interrupted evaluation resumes; None keeps them in memory.
        report: called with each result.
        progress: called with the progress of the answers, and of the oracle's scoring.
        block: test rows answered between writes; by default 128, or 64 for generation.
        processes: of this machine, which share the encoding of large pools.

    Raises:
        ConfigError: a run is not finished, an option does not fit a task or an index, or the directory belongs to
            another evaluation.
        ModelError: there is no encoder of a name.
        ArtifactError: an index cannot be opened.
        DataError: a task has no test rows.
        PartialError: in the end, if no worker could answer some rows; the blocks of rows without them are stored.
    """
    # Everything is loaded first, so that an error in a name or row comes before hours of work.
    scores = output / "oracle.sqlite" if output is not None else None
    model: AnsweringModel = lm if isinstance(lm, ServerModel) else LocalModel(lm)
    oracle = Oracle(model.scorer, config.oracle_candidates, config.oracle_context, config.seed, scores, progress)
    retrievers = [
        oracle if parsed.source == ORACLE else open_retriever(parsed, config.seed, processes)
        for parsed in config.parsed
    ]
    settings: dict[str, Json] = {
        "lm": model.fingerprint,
        "lm_dtype": model.dtype,
        "lm_wording": formatting.LM_WORDING,
        "pool": config.pool,
        "seed": config.seed,
        **model.settings,
    }
    # Not among the settings: an evaluation goes on with the answers that it has, and reads them again.
    tests = [_Test.sampled(folder, config, {**settings, "reading": READING}) for folder in collection.tasks.values()]
    for retriever in retrievers:
        for test in tests:
            retriever.check(test.pool, test.queries, max(1, *config.shots))
    if output is not None:
        claim(output, settings)
    store = AnswerStore(output)
    results, drawn = list[TaskResult](), dict[str, dict[str, Json]]()
    failures = dict[str, PartialError]()
    for test in tests:
        answering = model.answering(test.pool)
        compared = [_Answers(model, answering, test, retriever, config.shots, store, block) for retriever in retrievers]
        for shots in config.shots:
            for answers in compared:
                number = f"{len(results) + len(failures) + 1} of {len(tests) * len(compared) * len(config.shots)}"
                task, label = test.pool.task.name, config.labels[answers.retriever.name]
                try:
                    result = answers.result(shots, config.seed, partial(progress, f"{number}: {task}, {label}"))
                except PartialError as error:
                    failures[f"{task} with {shots} demonstrations of {label}"] = error
                    continue
                results.append(result)
                report(result)
        for answers in compared:
            if not failures and (share := answers.random_share):
                name, task = answers.retriever.name, test.pool.task.name
                drawn.setdefault(name, {})[task] = round(share, 4)
                message = "task %s: %.1f %% of the demonstrations of %s are random"
                _LOG.warning(message, task, 100 * share, config.labels[name])
    if failures:
        why = next(iter(failures.values()))
        raise PartialError(f"answers are missing of {listed(list(failures), len(failures))}: {why}")
    facts: dict[str, Json] = {
        "udr": __version__,
        "lm_name": model.name,
        **({"spent": model.spent} if model.spent else {}),
        **settings,
        "limit": config.limit,
        "shots": config.shots,
        "resamples": RESAMPLES,
        "random_share": drawn,
        "oracle_candidates": config.oracle_candidates,
        "oracle_context": config.oracle_context,
        "task_folder": str(collection.root),
        "retrievers": {retriever.name: retriever.identity for retriever in retrievers},
        "tasks": {
            test.pool.task.name: {"pool": len(test.pool), "test_rows": len(test.queries), "of": test.of}
            for test in tests
        },
    }
    trained = tuple(retriever.name for retriever in retrievers if retriever.trained)
    return Evaluation(config.labels, config.shots, config.compared_with(), tuple(results), facts, trained)


@dataclass(frozen=True, slots=True)
class _Test:
    """A task and its test rows.

    Attributes:
        hashes: of the queries, by id.
        of: the number of test rows of which these are a sample.
        made_from: see ``Cell``; without the retriever.
    """

    pool: Pool
    queries: tuple[Row, ...]
    hashes: Mapping[str, str]
    of: int
    made_from: Mapping[str, Json]

    @staticmethod
    def sampled(folder: TaskFolder, config: EvaluationConfig, settings: Mapping[str, Json]) -> "_Test":
        pool = folder.pool(config.pool, config.seed)
        test = folder.rows("test")
        queries = tuple(sample(test, config.limit, config.seed))
        hashes = {query.id: rows_digest((query,)) for query in queries}
        rows = {"limit": config.limit, "pool_rows": pool_digest(pool), "test_rows": rows_digest(queries)}
        return _Test(pool, queries, hashes, len(test), {"udr": __version__, **settings, **rows})


@dataclass(frozen=True)
class _Answers:
    """One retriever on one task; it retrieves once, and only if an answer is missing."""

    model: AnsweringModel
    answering: Answering
    test: _Test
    retriever: ComparedRetriever
    shots: Sequence[int]
    store: AnswerStore
    block: int | None

    def result(self, shots: int, seed: int, on_progress: Callable[[Progress], None]) -> TaskResult:
        """Return the result with a number of demonstrations; ``seed`` is that of resamples."""
        task, queries = self.test.pool.task, self.test.queries
        answers = self._answers(shots, on_progress)
        value = task_estimate(task, queries, [answer.text for answer in answers], seed)
        written = Counter(answer.parsing for answer in answers if answer.parsing is not None)
        return TaskResult(
            task=task.name,
            family=task.family,
            metric=task.metric.value,
            retriever=self.retriever.name,
            shots=shots,
            num_rows=len(queries),
            estimate=value,
            parsing={parsing: written[parsing] for parsing in Parsing} if written else {},
        )

    def _answers(self, shots: int, on_progress: Callable[[Progress], None]) -> list[Answer]:
        pool, queries, hashes = self.test.pool, self.test.queries, self.test.hashes
        name, identity = (self.retriever.name, self.retriever.identity) if shots else (NO_RETRIEVER, {})
        cell = Cell(pool.task.name, name, shots, {**self.test.made_from, "retriever": identity})
        stored = self.store.read(cell)
        answers = {answer.query: answer for answer in stored if answer.row == hashes.get(answer.query, "")}
        # A smaller sample drops no answer of a larger one.
        others = [answer for answer in stored if answer.query not in hashes]
        if 0 < len(answers) < len(queries):
            message = "%s, %s, %d shots: resuming after %d of %d answers"
            _LOG.info(message, cell.task, cell.retriever, shots, len(answers), len(queries))
        before, started = len(answers), time.monotonic()

        def on_done(count: int) -> None:
            seconds = time.monotonic() - started
            on_progress(Progress(len(answers) + count, len(queries), 0, seconds, "rows", before, self.model.note))

        # Only complete blocks are stored, so a resumed evaluation has the same blocks as an uninterrupted one.
        block = self.block or (_GENERATION_BLOCK if pool.task.kind is Kind.GENERATION else _BLOCK)
        failures = list[PartialError]()
        for first in range(0, len(queries), block):
            part = queries[first : first + block]
            if all(query.id in answers for query in part):
                continue
            on_done(0)
            shown = [self._demonstrations[shots, query.id] if shots else Shown(()) for query in part]
            try:
                answered = self.answering(part, shown, shots, on_done)
            except PartialError as error:
                failures.append(error)
                continue
            answers |= {answer.query: replace(answer, row=hashes[answer.query]) for answer in answered}
            self.store.write(cell, [*(answers[query.id] for query in queries if query.id in answers), *others])
        if failures:
            raise failures[0]
        return [answers[query.id] for query in queries]

    @property
    def random_share(self) -> float:
        """The share of the demonstrations that are drawn by seed, since the retriever found too few."""
        if not any(self.shots) or not self.retriever.fills:
            return 0.0
        shown = [self._demonstrations[max(self.shots), query.id] for query in self.test.queries]
        return sum(item.drawn for item in shown) / max(1, sum(len(item.rows) for item in shown))

    @cached_property
    def _demonstrations(self) -> dict[tuple[int, str], Shown]:
        """What is shown, by the number of demonstrations and the query's id."""
        counts, queries = [shots for shots in self.shots if shots], self.test.queries
        keys = product(counts, (query.id for query in queries))
        return dict(zip(keys, self.retriever.demonstrations(self.test.pool, queries, *counts), strict=True))


def task_estimate(task: Task, queries: Sequence[Row], predictions: Sequence[str], seed: int) -> Estimate:
    """Return the value by the task's metric of the answers to its test rows, with resamples by seed."""
    judged = judge(task.metric)
    sources = [formatting.input_words(task, row.input, row.choices) for row in queries]
    golds = [row.references or (row.target,) for row in queries]
    statistics = np.stack([judged.statistics(*answer) for answer in zip(predictions, golds, sources, strict=True)])
    return estimate(judged, statistics, task.name, seed)
