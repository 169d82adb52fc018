"""The verdict of an evaluation: one sentence that says whether training pays, or which retriever is better."""

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from statistics import NormalDist

from udr.data import Metric
from udr.types import Json
from udr_training.evaluation.config import RowCounts, how_to_use_more
from udr_training.evaluation.intervals import Estimate, Z, rows_missing
from udr_training.evaluation.results import Evaluation
from udr_training.evaluation.retrievers import ORACLE

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
    """The result of an evaluation in one sentence, or two.

    Attributes:
        sentence: for people; where that was measured, it begins with whether demonstrations help.
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


def _of_best(gain: Estimate, count: int) -> Estimate:
    """Return the gain of the best of ``count`` retrievers, with a lower end that allows for that choice.

    The best of equal ones is ahead by chance. Below this end none of them is in 97.5 of 100 tests, as below that of one
    retriever (Šidák 1967), so its distance, and the error, grow as the normal distribution's quantile does.
    """
    if count < 2:
        return gain
    wider = NormalDist().inv_cdf(NormalDist().cdf(Z) ** (1 / count)) / Z
    low, high = gain.interval
    return replace(gain, interval=(gain.value - wider * (gain.value - low), high), error=wider * gain.error)


def verdict(evaluation: Evaluation) -> Verdict:
    """Return the verdict with the largest number of demonstrations, on average over the tasks."""
    helps, more = _help(evaluation) if evaluation.helped else ("", 0)
    found = _compared(evaluation)
    missing = max(found.rows_missing, more)
    remedy = _remedy(evaluation, evaluation.num_rows + missing) if missing else ""
    return replace(found, sentence=helps + found.sentence, remedy=remedy)


def _help(evaluation: Evaluation) -> tuple[str, int]:
    """Return whether the demonstrations of the best retriever help, and how many more rows would tell it."""
    shots, rows = evaluation.main_shots, evaluation.num_rows
    names = [name for name in evaluation.labels if name != ORACLE] or list(evaluation.labels)
    best = max(names, key=lambda name: evaluation.value(name, shots).value)
    without, gain = evaluation.value(best, 0), _of_best(evaluation.help(best, shots), len(names))
    outcome, missing = judge_gain(gain, rows)
    how, count = f"with {shots} of {evaluation.labels[best]}", len(names)
    numbers = _numbers(evaluation, how, best, without, "without any", gain, count)
    if outcome is Outcome.TOO_FEW_ROWS and without.value >= _ALL:
        return f"Demonstrations have nothing to add here: without any, all {rows:,} test rows are right. ", 0
    if outcome is Outcome.TOO_FEW_ROWS:
        return f"Too few test rows to tell whether demonstrations help: {numbers}; {_needed(missing, gain)}. ", missing
    verb = "help" if outcome is Outcome.PAYS else "harm" if gain.interval[1] < 0 else "do not help"
    return f"Demonstrations {verb} here: {numbers}. ", 0


def _compared(evaluation: Evaluation) -> Verdict:
    """Return the verdict on the subject and its rival, without the remedy."""
    shots, subject, rival = evaluation.main_shots, evaluation.subject, evaluation.rival
    label = evaluation.labels[subject]
    value = evaluation.value(subject, shots)
    if rival is None or not shots:
        low, high = map(_short, value.interval)
        shown = label if shots else "no demonstration"
        unit = _unit(evaluation).rstrip(",")
        sentence = f"With {shown}: {_short(value.value)} {unit}, likely between {low} and {high}, by "
        sentence += f"{evaluation.num_rows:,} test row{'s' * (evaluation.num_rows != 1)}."
        return Verdict(sentence=sentence, outcome=None, retriever=subject)
    count = len(evaluation.contenders)
    gain = _of_best(evaluation.gain(subject, shots, over=rival), count)
    outcome, missing = judge_gain(gain, evaluation.num_rows)
    best = [evaluation.labels[name] for name in evaluation.best_untrained]
    trained, name = bool(best), evaluation.labels[rival]
    listed = " and ".join([", ".join(best[:-1]), best[-1]] if len(best) > 1 else best)
    by = f"{listed}, the best untrained retriever{'s' * (len(best) > 1)}" if trained else name
    numbers = _numbers(evaluation, "", subject, evaluation.value(rival, shots), f"by {by}", gain, count)
    if outcome is Outcome.TOO_FEW_ROWS and evaluation.value(rival, shots).value >= _ALL:
        # No number of such rows shows a gain.
        sentence = (
            f"These test rows leave nothing to gain: {by}{',' * trained} get{'s' * (len(best) < 2)} all "
            f"{evaluation.num_rows:,} of them right. More rows, or harder ones, would tell more."
        )
    elif outcome is Outcome.TOO_FEW_ROWS:
        what = "training pays" if trained else f"{label} is better than {name}"
        sentence = f"Too few test rows to tell whether {what}: {numbers}; {_needed(missing, gain)}."
    elif trained:
        sentence = f"Training {outcome} here: {numbers}."
    else:
        sentence = f"{label} is {'' if outcome is Outcome.PAYS else 'not '}better than {name} here: {numbers}."
    return Verdict(sentence=sentence, outcome=outcome, retriever=subject, over=rival, rows_missing=missing)


def _numbers(
    evaluation: Evaluation, how: str, retriever: str, other: Estimate, by: str, gain: Estimate, of: int
) -> str:
    """Return a retriever's value in place of another, and the gain, which is that of the best ``of`` so many."""
    value, low, high = evaluation.value(retriever, evaluation.main_shots).value, *map(_signed, gain.interval)
    best = f" as the best of {of}" * (of > 1)
    return (
        f"{how}{', ' * bool(how)}{_short(value)} {_unit(evaluation)} in place of {_short(other.value)} {by} "
        f"({_signed(gain.value)}, likely between {low} and {high}{best}, by {evaluation.num_rows:,} test rows)"
    )


def _needed(missing: int, gain: Estimate) -> str:
    size = "of this size" if gain.value >= LEAST_GAIN else f"of {_short(LEAST_GAIN)} points"
    return f"about {missing:,} more test {'row is' if missing == 1 else 'rows are'} needed for a gain {size}"


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
