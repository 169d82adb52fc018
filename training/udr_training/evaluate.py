"""Evaluation: the task metric that a language model reaches with each retriever's demonstrations."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udr import text
from udr.errors import ConfigError
from udr.pool import Collection, Pool, sample
from udr.tasks import Kind, Task
from udr.types import Json, Row
from udr_training.feedback.causal_lm import CausalLM
from udr_training.feedback.pairs import prompt_of
from udr_training.feedback.scoring import option_values
from udr_training.metrics import Judge, judge
from udr_training.retrievers import NamedRetriever

_RESAMPLES = 2000
_INTERVAL = (2.5, 97.5)
# No answer is longer than the longest target of the pool, by much.
_EXTRA_TOKENS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """How retrievers are compared.

    Attributes:
        shots: demonstrations a prompt.
        limit: test rows a task, by seed; None for all.
        pool: rows of a task's pool, by seed; None for all.
        seed: of these cuts, of random demonstrations, and of the bootstrap.
    """

    shots: int = 4
    limit: int | None = None
    pool: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What one retriever reached on one task.

    Attributes:
        task: the task's name.
        retriever: the retriever's name.
        value: the task's metric, 0 to 100.
        low: the lower end of its 95 % bootstrap interval.
        high: the upper end.
        num_rows: test rows.
        samples: [resamples], the bootstrap's values; resample i draws the same rows for every retriever.
    """

    task: str
    retriever: str
    metric: str
    value: float
    low: float
    high: float
    num_rows: int
    samples: NDArray[np.float64]

    def to_json(self) -> dict[str, Json]:
        """Return the result as JSON, without the resamples."""
        return {
            "task": self.task,
            "retriever": self.retriever,
            "metric": self.metric,
            "value": round(self.value, 2),
            "low": round(self.low, 2),
            "high": round(self.high, 2),
            "rows": self.num_rows,
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The results of every retriever on every task, in the order asked for."""

    retrievers: tuple[str, ...]
    results: tuple[TaskResult, ...]

    def to_json(self) -> dict[str, Json]:
        """Return means over tasks, and the tasks' values."""
        return {
            "means": [self._mean(name) for name in self.retrievers],
            "tasks": [result.to_json() for result in self.results],
        }

    def _mean(self, retriever: str) -> dict[str, Json]:
        own = [result for result in self.results if result.retriever == retriever]
        ends = np.percentile(np.mean([result.samples for result in own], axis=0), _INTERVAL)
        mean, low, high = (round(float(value), 2) for value in (np.mean([result.value for result in own]), *ends))
        return {"retriever": retriever, "mean": mean, "low": low, "high": high}


def evaluate(
    collection: Collection,
    retrievers: Sequence[str],
    lm: CausalLM,
    config: EvaluationConfig,
    report: Callable[[TaskResult], None] = lambda _: None,
) -> Evaluation:
    """Compare retrievers on the same test rows with the same language model.

    Args:
        collection: the tasks.
        retrievers: ``random``, ``bm25``, names of encoders, run directories.
        lm: answers the prompts.
        config: sizes and seed.
        report: told each result as it comes.

    Raises:
        ConfigError: no retriever is named, or a run is not finished.
        ModelError: a name leads to no encoder.
        DataError: a task has no test rows.
    """
    if not retrievers:
        raise ConfigError("no retriever is named; name random, bm25, an encoder or a run directory")
    # All is loaded first, so that a wrong name or row is an error before the hours, not after.
    loaded = [NamedRetriever(name, config.seed) for name in retrievers]
    tasks = [
        (folder.pool(config.pool, config.seed), sample(folder.rows("test"), config.limit, config.seed))
        for folder in collection.tasks.values()
    ]
    results = []
    for pool, queries in tasks:
        for retriever in loaded:
            demonstrations = retriever.demonstrations(pool, queries, config.shots)
            predictions = predict(lm, pool, queries, demonstrations)
            result = _result(pool.task, retriever.name, queries, predictions, config.seed)
            report(result)
            results.append(result)
    return Evaluation(tuple(retrievers), tuple(results))


def predict(lm: CausalLM, pool: Pool, queries: Sequence[Row], demonstrations: Sequence[Sequence[Row]]) -> list[str]:
    """Return the language model's answer to each query: the likeliest option, or greedy text.

    Args:
        lm: the language model.
        pool: the task's demonstrations; for generation, its targets tell when an answer ends.
        queries: rows of the task.
        demonstrations: for each query, nearest first; the prompt shows the nearest last.
    """
    shown = [list(reversed(nearest_first)) for nearest_first in demonstrations]
    answer = _generated if pool.task.kind is Kind.GENERATION else _chosen
    return answer(lm, pool, queries, shown)


def _chosen(lm: CausalLM, pool: Pool, queries: Sequence[Row], shown: Sequence[Sequence[Row]]) -> list[str]:
    task = pool.task
    prompts = [prompt_of(lm, task, query, rows) for query, rows in zip(queries, shown, strict=True)]
    answers = []
    for query, likelihoods in zip(queries, lm.likelihoods(prompts), strict=True):
        answers.append(text.targets(task, query)[int(option_values(task, likelihoods).argmax())])
    return answers


def _generated(lm: CausalLM, pool: Pool, queries: Sequence[Row], shown: Sequence[Sequence[Row]]) -> list[str]:
    task = pool.task
    room = max(len(lm.tokens(row.target)) for row in pool.rows) + _EXTRA_TOKENS
    prompts = [prompt_of(lm, task, query, rows, answer_tokens=room) for query, rows in zip(queries, shown, strict=True)]
    # A target of several paragraphs ends at a blank line like any other part; a line ends one-line targets.
    stop = [text.SEPARATOR] if any("\n" in row.target for row in pool.rows) else ["\n"]
    tail = task.output.source.partition("{target}")[2].rstrip()
    texts = lm.generate([sum(prompt.parts, ()) for prompt in prompts], stop, room)
    return [answer.removesuffix(tail).rstrip() for answer in texts]


def _result(task: Task, retriever: str, queries: Sequence[Row], predictions: Sequence[str], seed: int) -> TaskResult:
    judged: Judge = judge(task.metric)
    sources = [text.input_words(task, row.input, row.choices) for row in queries]
    golds = [row.references or (row.target,) for row in queries]
    statistics = np.stack([judged.statistics(*answer) for answer in zip(predictions, golds, sources, strict=True)])
    samples = np.array(
        [judged.value(statistics[rows].sum(axis=0)) for rows in _resamples(task.name, len(queries), seed)]
    )
    low, high = np.percentile(samples, _INTERVAL)
    value = judged.value(statistics.sum(axis=0))
    return TaskResult(task.name, retriever, task.metric.value, value, float(low), float(high), len(queries), samples)


def _resamples(task: str, size: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield rows drawn with repetition: the same for every retriever, so that differences are paired.

    Each task has draws of its own; with common ones, tasks would rise and fall together in the mean's interval.
    """
    generator = np.random.default_rng(int.from_bytes(hashlib.sha256(f"{seed}:{task}".encode()).digest()[:8]))
    for _ in range(_RESAMPLES):
        yield generator.integers(size, size=size)


def table(evaluation: Evaluation) -> str:
    """Return the values as a table for people: a row a task, a column a retriever, the means last."""
    tasks = list(dict.fromkeys(result.task for result in evaluation.results))
    values: Mapping[tuple[str, str], float] = {(r.task, r.retriever): r.value for r in evaluation.results}
    rows = [["task", *evaluation.retrievers]]
    rows += [[task, *(f"{values[task, name]:.1f}" for name in evaluation.retrievers)] for task in tasks]
    means = evaluation.to_json()["means"]
    assert isinstance(means, list)
    rows.append(["mean", *(f"{mean['mean']:.1f} [{mean['low']:.1f}, {mean['high']:.1f}]" for mean in means)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return "\n".join("  ".join(row).rstrip() for row in padded)
