"""The verdict of an evaluation: one sentence that says whether training pays, or which retriever is better."""

from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from udr.data import Metric
from udr.types import Json
from udr_training.evaluation.config import RowCounts, how_to_use_more
from udr_training.evaluation.intervals import Estimate, rows_missing
from udr_training.evaluation.results import Evaluation

LEAST_GAIN = 2.0
"""The smallest gain that is taken to matter, in points: below it, training does not pay."""

_ALL = 100.0 - 1e-6

_RIGHT_OR_WRONG = {Metric.ACCURACY, Metric.EXACT_MATCH, Metric.FINAL_ANSWER}


class Outcome(StrEnum):
    """What the test rows say about a gain."""

    PAYS = "pays"
    DOES_NOT_PAY = "does not pay"
    TOO_FEW_ROWS = "too few test rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result of an evaluation in one sentence.

    Attributes:
        sentence: for people.
        outcome: None if there is nothing to compare with.
        retriever: the full name of the retriever that it is about.
        over: the one that it is compared with; None without one.
        rows_missing: test rows, over all tasks, that are still needed; 0 unless there are too few.
        remedy: how to get them; empty if the evaluation does not say on which rows it was.
    """

    sentence: str
    outcome: Outcome | None
    retriever: str
    over: str | None = None
    rows_missing: int = 0
    remedy: str = ""

    @property
    def text(self) -> str:
        """The sentence, and below it the remedy if there is one."""
        return f"{self.sentence}\n{self.remedy}" if self.remedy else self.sentence

    def to_json(self) -> dict[str, Json]:
        """Return the verdict as JSON."""
        return asdict(self)


def judge_gain(gain: Estimate, num_rows: int) -> tuple[Outcome, int]:
    """Return what test rows say about a gain, and how many more are needed if they are too few.

    It does not pay if its interval excludes gains of ``LEAST_GAIN``. It pays if the interval lies above 0. Without
    either, it does not pay if there are rows enough to see a gain of ``LEAST_GAIN``. Otherwise there are too few rows
    for a gain of the size that was measured, or of ``LEAST_GAIN`` if that is larger.

    Args:
        gain: in points.
        num_rows: the test rows of all tasks.
    """
    low, high = gain.interval
    if high < LEAST_GAIN:
        return Outcome.DOES_NOT_PAY, 0
    if low > 0:
        return Outcome.PAYS, 0
    missing = rows_missing(max(gain.value, LEAST_GAIN), gain.error, num_rows)
    return (Outcome.TOO_FEW_ROWS, missing) if missing else (Outcome.DOES_NOT_PAY, 0)


def verdict(evaluation: Evaluation) -> Verdict:
    """Return the verdict with the largest number of demonstrations, on average over the tasks."""
    shots, subject, rival = evaluation.main_shots, evaluation.subject, evaluation.rival
    unit, label = _unit(evaluation), evaluation.labels[subject]
    value = evaluation.value(subject, shots)
    if rival is None or not shots:
        low, high = map(_short, value.interval)
        shown = label if shots else "no demonstration"
        sentence = f"With {shown}: {_short(value.value)} {unit.rstrip(',')}, likely between {low} and {high}, by "
        sentence += f"{evaluation.num_rows:,} test row{'s' * (evaluation.num_rows != 1)}."
        return Verdict(sentence=sentence, outcome=None, retriever=subject)
    gain = evaluation.gain(subject, shots, over=rival)
    outcome, missing = judge_gain(gain, evaluation.num_rows)
    best = [evaluation.labels[name] for name in evaluation.best_untrained]
    trained, name = bool(best), evaluation.labels[rival]
    listed = " and ".join([", ".join(best[:-1]), best[-1]] if len(best) > 1 else best)
    by = f"{listed}, the best untrained retriever{'s' * (len(best) > 1)}" if trained else name
    numbers = (
        f"{_short(value.value)} {unit} in place of {_short(evaluation.value(rival, shots).value)} by {by} "
        f"({_signed(gain.value)}, likely between {_signed(gain.interval[0])} and {_signed(gain.interval[1])}, "
        f"by {evaluation.num_rows:,} test rows)"
    )
    if outcome is Outcome.TOO_FEW_ROWS and evaluation.value(rival, shots).value >= _ALL:
        # No number of such rows shows a gain.
        sentence = (
            f"These test rows leave nothing to gain: {by}{',' * trained} get{'s' * (len(best) < 2)} all "
            f"{evaluation.num_rows:,} of them right. More rows, or harder ones, would tell more."
        )
    elif outcome is Outcome.TOO_FEW_ROWS:
        what = "training pays" if trained else f"{label} is better than {name}"
        size = "of this size" if gain.value >= LEAST_GAIN else f"of {_short(LEAST_GAIN)} points"
        rows = f"about {missing:,} more test {'row is' if missing == 1 else 'rows are'} needed for a gain {size}"
        sentence = f"Too few test rows to tell whether {what}: {numbers}; {rows}."
    elif trained:
        sentence = f"Training {outcome} here: {numbers}."
    else:
        sentence = f"{label} is {'' if outcome is Outcome.PAYS else 'not '}better than {name} here: {numbers}."
    remedy = _remedy(evaluation, evaluation.num_rows + missing) if missing else ""
    return Verdict(
        sentence=sentence, outcome=outcome, retriever=subject, over=rival, rows_missing=missing, remedy=remedy
    )


def _remedy(evaluation: Evaluation, needed: int) -> str:
    """Return what to do to evaluate on more test rows; empty if the evaluation does not say on which it was."""
    config = evaluation.config
    tasks = config.get("tasks")
    if not isinstance(tasks, dict):
        return ""
    counts = {
        name: RowCounts(*(int(str(rows[key])) for key in ("test_rows", "of", "pool"))) for name, rows in tasks.items()
    }
    if config["pool"]:
        # How many rows there are beyond the sample is not known here; udr tasks split tells if they are too few.
        counts = {name: replace(count, pool=2 * needed) for name, count in counts.items()}
    return how_to_use_more(str(config["task_folder"]), counts, needed, evaluation.use_all)


def _unit(evaluation: Evaluation) -> str:
    """Return what the values count: right answers, or points if a task's metric is another."""
    right = {result.metric for result in evaluation.results} <= {metric.value for metric in _RIGHT_OR_WRONG}
    average = f", on average over {len(evaluation.tasks)} tasks," if len(evaluation.tasks) > 1 else ""
    return ("of 100 right" if right else "points of 100") + average


def _short(value: float) -> str:
    """Return a number with one decimal, or none if that is 0."""
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0").replace("-", "−")


def _signed(value: float) -> str:
    return f"+{_short(value)}" if round(value, 1) > 0 else _short(value)
