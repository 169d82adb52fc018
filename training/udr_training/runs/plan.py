"""The plan of a run: what it would do, and what that would cost (``udr train --dry-run``)."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from udr.types import Json
from udr_training.candidates import LEAST_AGREEMENT
from udr_training.trainer.extrapolation import LEAD, LEAST


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """One task's share of a run; ``queries`` include held-out ones.

    Attributes:
        candidates: of a query and iteration, at most; a small pool has fewer than are asked for.
        pairs: to score in the first iteration.
        stored: those of them that are already scored.
        later_queries: new queries of later iterations; 0 if these ask the same ones. If they are allocated by labels,
            the shares are known once the first iteration's pairs are scored, and equal before; their sum is known.
        later_pairs: to score in later iterations, at most; if queries are allocated, the sum of all tasks is.
        pairs_per_second: measured.
        extrapolated: rows that become queries too, with scores that follow from labels or a reward model, if these
            explain the order.
        agreement: the share of the order that labels explain, if the first iteration's pairs are scored already and
            enough queries are held out; a reward model's is known after its training.
    """

    task: str
    labels: bool
    pool: int
    queries: int
    candidates: int
    pairs: int
    stored: int
    pairs_per_second: float
    extrapolated: int
    agreement: float | None
    later_queries: int = 0
    later_pairs: int = 0

    @property
    def seconds(self) -> float:
        """The feedback's time, at most."""
        return (self.pairs - self.stored + self.later_pairs) / self.pairs_per_second


@dataclass(frozen=True, slots=True)
class RewardPlan:
    """The plan of a reward model: a training of ``steps`` steps, and the ``pairs`` that it scores at most.

    Attributes:
        seconds_per_step: measured.
        pairs_per_second: measured.
    """

    steps: int
    seconds_per_step: float
    pairs: int
    pairs_per_second: float

    @property
    def seconds(self) -> float:
        """The time of both, at most."""
        return self.steps * self.seconds_per_step + self.pairs / self.pairs_per_second

    def line(self) -> str:
        """Return the plan as a line for people."""
        return (
            f"reward model: {self.steps} steps, {self.seconds_per_step:.2f} s each, then at most {self.pairs} pairs, "
            f"{self.pairs_per_second:.1f} pairs/s, {clock(self.seconds)}; used in tasks where it orders at least "
            f"{LEAST:.0%} of held-out scores right, and {LEAD:.0%} more than the encoder"
        )


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The plan of a run: ``iterations`` trainings of ``steps`` steps each.

    Attributes:
        reward: the plan of the reward model; None without one.
        seconds_per_step: of the task with the longest texts, measured in one process, on its share of a batch if each
            process has a GPU.
        processes: that share a training.
        disk_bytes: the largest size of the run directory: scores, models, checkpoints.
    """

    tasks: tuple[TaskPlan, ...]
    iterations: int
    steps: int
    seconds_per_step: float
    processes: int
    reward: RewardPlan | None
    disk_bytes: int

    @property
    def feedback_seconds(self) -> float:
        """The feedback's time, at most."""
        return sum(task.seconds for task in self.tasks)

    @property
    def training_seconds(self) -> float:
        """The trainings' time, at most, without mining and validation."""
        return self.iterations * self.steps * self.seconds_per_step

    def to_json(self) -> dict[str, Json]:
        """Return the plan as JSON."""
        return {**asdict(self), "feedback_seconds": self.feedback_seconds, "training_seconds": self.training_seconds}

    def lines(self, evaluation: tuple[str, float] | None = None) -> Iterator[str]:
        """Yield the plan as lines for people.

        Args:
            evaluation: what is to be said of the evaluation at its end, and its seconds; None if there is none.
        """
        for task in self.tasks:
            # Where queries are allocated, only their sum is known for sure.
            how_many = "about" if task.later_queries else "at most"
            yield (
                f"{task.task}: {task.queries} queries, {task.candidates} candidates each from {task.pool} rows; "
                f"{task.pairs} pairs ({task.stored} already scored)"
                f"{f', then {how_many} {task.later_pairs} more' if task.later_pairs else ''}"
                f"{f', of {task.later_queries} new queries' if task.later_queries else ''}; "
                f"{task.pairs_per_second:.1f} pairs/s, {clock(task.seconds)}"
            )
            if task.extrapolated and self.reward is not None:
                yield f"{task.task}: {task.extrapolated} more rows are extrapolated by the reward model"
            elif task.extrapolated:
                known = "" if task.agreement is None else f"; they explain {task.agreement:.1%}"
                yield (
                    f"{task.task}: at most {task.extrapolated} more rows are extrapolated from labels, those with a "
                    f"candidate of their label, if labels explain {LEAST_AGREEMENT:.0%} of the order of held-out "
                    f"scores{known}"
                )
        if any(task.later_queries for task in self.tasks):
            known = ", ".join(f"{task.task} {task.agreement:.0%}" for task in self.tasks if task.agreement is not None)
            queries = sum(task.later_queries for task in self.tasks)
            yield f"new queries: {queries} in all, at most {sum(task.later_pairs for task in self.tasks)} pairs" + (
                f", allocated by what labels explain of the order: {known}" if known else ""
            )
        yield f"feedback: {clock(self.feedback_seconds)} at most"
        if self.reward is not None:
            yield self.reward.line()
        shared = f" on {self.processes} processes" if self.processes > 1 else ""
        yield (
            f"training: {self.iterations} x {self.steps} steps{shared}, {self.seconds_per_step:.2f} s each, "
            f"{clock(self.training_seconds)}, plus mining and validation"
        )
        reward = 0.0 if self.reward is None else self.reward.seconds
        told, evaluating = evaluation or ("", 0.0)
        if told:
            yield told
        total = clock(self.feedback_seconds + reward + self.training_seconds + evaluating)
        yield (
            f"in all: {total} at most{', the evaluation included' * bool(told)}, plus mining, validation and encoding "
            "of pools; fewer --queries, --candidates"
            f"{',' if told else ' or'} --iterations{' or --test-rows' * bool(told)} take less"
        )
        yield f"disk: {self.disk_bytes / 1e6:,.0f} MB at most"


def clock(seconds: float) -> str:
    """Return a duration in hours and minutes, rounded up."""
    minutes = math.ceil(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
