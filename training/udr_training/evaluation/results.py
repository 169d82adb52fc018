"""The results of an evaluation: values of tasks, families and all tasks, and gains over a baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from udr.types import Json
from udr_training.evaluation.bootstrap import Estimate, mean
from udr_training.evaluation.retriever_names import ORACLE


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What one retriever reached on one task.

    Attributes:
        task: the task's name.
        family: the family's.
        metric: the task's metric, 0 to 100.
        retriever: the retriever's full name.
        shots: demonstrations a prompt.
        num_rows: test rows.
        estimate: of the metric.
    """

    task: str
    family: str
    metric: str
    retriever: str
    shots: int
    num_rows: int
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The results of every retriever on every task.

    Attributes:
        labels: short names by full ones, in the order asked for.
        shots: in the order asked for.
        baseline: the full name of the retriever that gains are counted from.
        results: task by task, in the order they came.
        config: what was run.
    """

    labels: Mapping[str, str]
    shots: tuple[int, ...]
    baseline: str
    results: tuple[TaskResult, ...]
    config: Mapping[str, Json]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in the order asked for."""
        return tuple(dict.fromkeys(result.task for result in self.results))

    @property
    def families(self) -> dict[str, tuple[str, ...]]:
        """The tasks by family."""
        families: dict[str, dict[str, None]] = {}
        for result in self.results:
            families.setdefault(result.family, {})[result.task] = None
        return {family: tuple(tasks) for family, tasks in families.items()}

    @property
    def num_rows(self) -> int:
        """Test rows of all tasks together."""
        return sum({result.task: result.num_rows for result in self.results}.values())

    @property
    def others(self) -> tuple[str, ...]:
        """The retrievers that are compared with the baseline."""
        return tuple(name for name in self.labels if name != self.baseline)

    @property
    def main_shots(self) -> int:
        """The number of demonstrations that a summary speaks of: the largest."""
        return max(self.shots)

    def result(self, task: str, retriever: str, shots: int) -> TaskResult:
        """Return one result."""
        wanted = (task, retriever, shots)
        return next(result for result in self.results if (result.task, result.retriever, result.shots) == wanted)

    def value(self, retriever: str, shots: int, tasks: Sequence[str] | None = None) -> Estimate:
        """Return a retriever's mean over some tasks, each counted once; None for all."""
        return mean([self.result(task, retriever, shots).estimate for task in tasks or self.tasks])

    def gain(self, retriever: str, shots: int, tasks: Sequence[str] | None = None) -> Estimate:
        """Return how much higher that is than the baseline's, on the same resamples."""
        return self.value(retriever, shots, tasks) - self.value(self.baseline, shots, tasks)

    def best(self, shots: int) -> str:
        """Return the retriever with the highest mean, the baseline and the oracle aside where there are others."""
        candidates = [name for name in self.others if name != ORACLE] or [self.baseline]
        return max(candidates, key=lambda name: self.value(name, shots).value)

    def to_json(self) -> dict[str, Json]:
        """Return means, values and gains, rounded to 2 decimals, and what was run."""
        groups = [(name, self.labels[name], shots) for shots in self.shots for name in self.labels]
        gains = [group for group in groups if group[0] != self.baseline]

        def who(name: str, label: str, shots: int) -> dict[str, Json]:
            return {"retriever": name, "label": label, "shots": shots}

        return {
            "means": [{**who(*group), **_rounded(self.value(group[0], group[2]), "mean")} for group in groups],
            "families": [
                {"family": family, **who(*group), **_rounded(self.value(group[0], group[2], tasks), "mean")}
                for family, tasks in self.families.items()
                for group in groups
            ],
            "tasks": [self._task_json(result) for result in self.results],
            "gains": {
                "baseline": self.baseline,
                "means": [{**who(*group), **_rounded(self.gain(group[0], group[2]), "gain")} for group in gains],
                "families": [
                    {"family": family, **who(*group), **_rounded(self.gain(group[0], group[2], tasks), "gain")}
                    for family, tasks in self.families.items()
                    for group in gains
                ],
                "tasks": [
                    {"task": task, **who(*group), **_rounded(self.gain(group[0], group[2], [task]), "gain")}
                    for task in self.tasks
                    for group in gains
                ],
            },
            "config": dict(self.config),
        }

    def _task_json(self, result: TaskResult) -> dict[str, Json]:
        return {
            "task": result.task,
            "family": result.family,
            "retriever": result.retriever,
            "label": self.labels[result.retriever],
            "shots": result.shots,
            "metric": result.metric,
            **_rounded(result.estimate, "value"),
            "rows": result.num_rows,
        }


def _rounded(estimate: Estimate, name: str) -> dict[str, Json]:
    low, high = estimate.interval
    return {name: round(estimate.value, 2), "low": round(low, 2), "high": round(high, 2)}
