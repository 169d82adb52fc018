"""The results of an evaluation: values of tasks, families and all tasks, and gains over a baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from udr.types import Json
from udr_training.answering import Parsing
from udr_training.evaluation.intervals import Estimate, mean
from udr_training.evaluation.retrievers import ORACLE, is_service


@dataclass(frozen=True, slots=True)
class TaskResult:
    """The result of one retriever, by its full name, on one task: an estimate of the task's metric, 0 to 100.

    ``parsing`` counts how the answers of a model that writes them were read; it is empty for other models.
    """

    task: str
    family: str
    metric: str
    retriever: str
    shots: int
    num_rows: int
    estimate: Estimate
    parsing: Mapping[Parsing, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The results of every retriever on every task.

    Attributes:
        labels: short names by full names, in the order of the configuration.
        shots: in the order of the configuration.
        baseline: the full name of the retriever that gains are relative to.
        results: task by task.
        config: what was run.
        runs: the full names of those whose encoder ``udr train`` has trained: runs, their models, and indexes by them.
        use_all: what to do to use the test rows that were left out.
    """

    labels: Mapping[str, str]
    shots: tuple[int, ...]
    baseline: str
    results: tuple[TaskResult, ...]
    config: Mapping[str, Json]
    runs: tuple[str, ...] = ()
    use_all: str = "run the same command without --limit"

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in the order of the results."""
        return tuple(dict.fromkeys(result.task for result in self.results))

    @property
    def families(self) -> dict[str, tuple[str, ...]]:
        """The tasks by family."""
        family_of = {result.task: result.family for result in self.results}
        families = dict.fromkeys(family_of.values())
        return {family: tuple(task for task in family_of if family_of[task] == family) for family in families}

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

    @property
    def unparsable(self) -> dict[tuple[str, int], dict[str, str]]:
        """Unparsable answers among all, by retriever and number of demonstrations, and task, where there are some."""
        counts: dict[tuple[str, int], dict[str, str]] = {}
        for result in self.results:
            if number := result.parsing.get(Parsing.UNPARSABLE):
                counts.setdefault((result.retriever, result.shots), {})[result.task] = f"{number} of {result.num_rows}"
        return counts

    def result(self, task: str, retriever: str, shots: int) -> TaskResult:
        """Return one result."""
        key = (task, retriever, shots)
        return next(result for result in self.results if (result.task, result.retriever, result.shots) == key)

    def value(self, retriever: str, shots: int, tasks: Sequence[str] | None = None) -> Estimate:
        """Return a retriever's mean over some tasks, or over all; each counts the same."""
        return mean([self.result(task, retriever, shots).estimate for task in tasks or self.tasks])

    def gain(self, retriever: str, shots: int, tasks: Sequence[str] | None = None, over: str | None = None) -> Estimate:
        """Return that mean minus the baseline's, or another retriever's, paired by test row."""
        if not shots:
            # Without demonstrations, the answers are the same ones.
            return Estimate.exact(0.0)
        return self.value(retriever, shots, tasks) - self.value(over or self.baseline, shots, tasks)

    @property
    def helped(self) -> tuple[int, ...]:
        """The numbers of demonstrations that are compared with none; empty unless 0 is among ``shots``."""
        return tuple(shots for shots in self.shots if shots) if 0 in self.shots else ()

    def help(self, retriever: str, shots: int, tasks: Sequence[str] | None = None) -> Estimate:
        """Return what demonstrations add: a retriever's mean minus that without any, paired by test row."""
        return self.value(retriever, shots, tasks) - self.value(retriever, 0, tasks)

    @property
    def contenders(self) -> Sequence[str]:
        """The retrievers of which the best is the subject: the runs.

        Without a run they are those other than the oracle and, if there are others, the baseline.
        """
        return self.runs or [name for name in self.others if name != ORACLE] or [self.baseline]

    @property
    def subject(self) -> str:
        """The retriever that the evaluation is about."""
        return max(self.contenders, key=lambda name: self.value(name, self.main_shots).value)

    @property
    def rival(self) -> str | None:
        """The retriever that the subject has to beat: the best untrained one if the subject is a run.

        Otherwise it is the baseline; None if there is nothing to compare with.
        """
        if self.best_untrained:
            return self.best_untrained[0]
        return self.baseline if self.baseline != self.subject else None

    @property
    def best_untrained(self) -> tuple[str, ...]:
        """The untrained retrievers that answer best, several if they tie; none if the subject is no run.

        What a service searches by is not known, so it is not among them.
        """
        untrained = [name for name in self.labels if name not in (*self.runs, ORACLE) and not is_service(name)]
        if self.subject not in self.runs or not untrained:
            return ()
        values = {name: self.value(name, self.main_shots).value for name in untrained}
        return tuple(name for name in untrained if values[name] > max(values.values()) - 1e-9)

    def to_json(self) -> dict[str, Json]:
        """Return means, values, gains and, where it is known, help, rounded to 2 decimals, and what was run."""

        def named(retriever: str, shots: int) -> dict[str, Json]:
            return {"retriever": retriever, "label": self.labels[retriever], "shots": shots}

        def rows(kind: str, groups: Mapping[str, Sequence[str]] | None = None, column: str = "") -> list[Json]:
            """Return each group's mean, gain or help, by number of demonstrations and retriever."""
            estimate = {"mean": self.value, "gain": self.gain, "help": self.help}[kind]
            return [
                ({column: group} if groups else {}) | named(name, shots) | _rounded(kind, estimate(name, shots, tasks))
                for group, tasks in (groups or {"": self.tasks}).items()
                for shots in (self.helped if kind == "help" else self.shots)
                for name in (self.others if kind == "gain" else self.labels)
            ]

        def differences(kind: str) -> dict[str, Json]:
            by_family, by_task = rows(kind, families, "family"), rows(kind, tasks, "task")
            return {"means": rows(kind), "families": by_family, "tasks": by_task}

        families, tasks = self.families, {task: (task,) for task in self.tasks}
        return {
            "means": rows("mean"),
            "families": rows("mean", families, "family"),
            "tasks": [
                {
                    "task": result.task,
                    "family": result.family,
                    **named(result.retriever, result.shots),
                    "metric": result.metric,
                    **_rounded("value", result.estimate),
                    "rows": result.num_rows,
                    **(
                        {"parsing": {name.value: count for name, count in result.parsing.items()}}
                        if result.parsing
                        else {}
                    ),
                }
                for result in self.results
            ],
            "gains": {"baseline": self.baseline, **differences("gain")},
            **({"help": differences("help")} if self.helped else {}),
            "config": dict(self.config),
        }


def _rounded(name: str, estimate: Estimate) -> dict[str, Json]:
    low, high = estimate.interval
    ends: dict[str, Json] = {"low": round(low, 2), "high": round(high, 2), "interval": estimate.method}
    return {name: round(estimate.value, 2), **ends}
