"""The results of an evaluation: values of tasks, families and all tasks, and gains over a baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from udr.types import Json
from udr_training.evaluation.bootstrap import Estimate, mean
from udr_training.evaluation.retriever_names import ORACLE


@dataclass(frozen=True, slots=True)
class TaskResult:
    """The result of one retriever on one task.

    Attributes:
        task: the task's name.
        family: the family's name.
        metric: the task's metric, 0 to 100.
        retriever: the retriever's full name.
        shots: demonstrations per prompt.
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
        labels: short names by full names, in the order of the configuration.
        shots: in the order of the configuration.
        baseline: the full name of the retriever that gains are relative to.
        results: task by task.
        config: what was run.
    """

    labels: Mapping[str, str]
    shots: tuple[int, ...]
    baseline: str
    results: tuple[TaskResult, ...]
    config: Mapping[str, Json]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in the order of the results."""
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
        """The test rows of all tasks."""
        return sum({result.task: result.num_rows for result in self.results}.values())

    @property
    def others(self) -> tuple[str, ...]:
        """The retrievers that are compared with the baseline."""
        return tuple(name for name in self.labels if name != self.baseline)

    @property
    def main_shots(self) -> int:
        """The number of demonstrations in the summary: the largest."""
        return max(self.shots)

    def result(self, task: str, retriever: str, shots: int) -> TaskResult:
        """Return one result."""
        key = (task, retriever, shots)
        return next(result for result in self.results if (result.task, result.retriever, result.shots) == key)

    def value(self, retriever: str, shots: int, tasks: Sequence[str] | None = None) -> Estimate:
        """Return a retriever's mean over some tasks, or over all; each counts the same."""
        return mean([self.result(task, retriever, shots).estimate for task in tasks or self.tasks])

    def gain(self, retriever: str, shots: int, tasks: Sequence[str] | None = None) -> Estimate:
        """Return that mean minus the baseline's, on the same resamples."""
        return self.value(retriever, shots, tasks) - self.value(self.baseline, shots, tasks)

    def best(self, shots: int) -> str:
        """Return the retriever with the highest mean, except the oracle and, if there are others, the baseline."""
        candidates = [name for name in self.others if name != ORACLE] or [self.baseline]
        return max(candidates, key=lambda name: self.value(name, shots).value)

    def to_json(self) -> dict[str, Json]:
        """Return means, values and gains, rounded to 2 decimals, and what was run."""

        def rows(kind: str, groups: Mapping[str, Sequence[str]] | None = None, group: str = "") -> list[Json]:
            """Return each group's value or gain, by number of demonstrations and retriever."""
            of, names = (self.gain, self.others) if kind == "gain" else (self.value, tuple(self.labels))
            return [
                {
                    **({group: key} if group else {}),
                    **{"retriever": name, "label": self.labels[name], "shots": shots},
                    **_rounded(of(name, shots, tasks), kind),
                }
                for key, tasks in (groups or {"": self.tasks}).items()
                for shots in self.shots
                for name in names
            ]

        families, tasks = self.families, {task: (task,) for task in self.tasks}
        return {
            "means": rows("mean"),
            "families": rows("mean", families, "family"),
            "tasks": [self._task_json(result) for result in self.results],
            "gains": {
                "baseline": self.baseline,
                "means": rows("gain"),
                "families": rows("gain", families, "family"),
                "tasks": rows("gain", tasks, "task"),
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
