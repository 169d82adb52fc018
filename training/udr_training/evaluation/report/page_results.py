"""The page's results: means by family and by number of demonstrations, gains, and the values of all tasks."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from markupsafe import Markup

from udr_training.evaluation.intervals import Estimate
from udr_training.evaluation.report.bar_table import bar_row, bar_table, gain_row
from udr_training.evaluation.report.charts import Figure, Line, line_figure
from udr_training.evaluation.report.format import counted, interval, points
from udr_training.evaluation.report.svg import Axis, Look
from udr_training.evaluation.results import Evaluation
from udr_training.evaluation.retrievers import ORACLE


def groups(evaluation: Evaluation) -> dict[str, tuple[str, ...]]:
    """Return the tasks of each card: all tasks and, if there are several, each family."""
    title = "All tasks" if len(evaluation.tasks) > 1 else evaluation.tasks[0]
    families = evaluation.families
    return {title: evaluation.tasks, **(families if len(families) > 1 else {})}


def means_axis(evaluation: Evaluation) -> Axis:
    """Return the axis of all cards."""
    shown = [
        evaluation.value(name, shots, tasks)
        for shots in evaluation.shots
        for name in evaluation.labels
        for tasks in groups(evaluation).values()
    ]
    return Axis.over([0.0, *(end for value in shown for end in (value.value, value.interval[1]))], num_ticks=4)


def bars(evaluation: Evaluation, axis: Axis, shots: int, tasks: Sequence[str]) -> Markup:
    """Return the means over some tasks, a bar per retriever."""
    rows = [
        bar_row(axis, evaluation.labels[name], evaluation.value(name, shots, tasks), look.kind)
        for name, look in _looks(evaluation).items()
    ]
    return bar_table(axis, ("retriever", "points"), rows)


def _looks(evaluation: Evaluation) -> dict[str, Look]:
    """Return the look of each retriever: colours for runs, or for what has no baseline's grey if there is no run."""
    coloured = evaluation.runs or [name for name in evaluation.others if name != ORACLE]
    # The subject has the first colour.
    ordered = sorted(coloured, key=lambda name: name != evaluation.subject)
    kinds = {name: Look.of(index).kind for index, name in enumerate(ordered)} | {ORACLE: "headroom"}
    return {name: Look(kinds.get(name, "base"), index) for index, name in enumerate(evaluation.labels)}


def shots_figure(evaluation: Evaluation) -> Figure:
    """Return the means over the number of demonstrations."""
    lines = []
    for name, look in _looks(evaluation).items():
        values = {shots: evaluation.value(name, shots) for shots in sorted(evaluation.shots)}
        heights = tuple((float(shots), value.value) for shots, value in values.items())
        lines.append(Line(evaluation.labels[name], heights, look, tuple(value.interval for value in values.values())))
    titles = "demonstrations a prompt", f"points{', mean of all tasks' if len(evaluation.tasks) > 1 else ''}"
    return line_figure("Mean by demonstrations", lines, *titles, heading=False)


Gain = Callable[[str, int, Sequence[str] | None], Estimate]
"""The gain of a retriever with a number of demonstrations on some tasks, or on all."""


def compared(evaluation: Evaluation, shots: int, names: Iterable[str]) -> list[str]:
    """Return the retrievers that have gains: what the evaluation is about first, then the best."""
    return sorted(names, key=lambda name: (name != evaluation.subject, -evaluation.value(name, shots).value))


def gains(evaluation: Evaluation, gain_of: Gain, shots: int, name: str) -> Markup:
    """Return a retriever's gains: over all tasks, by family, and by task from the best to the worst."""

    def gain(tasks: Sequence[str]) -> Estimate:
        return gain_of(name, shots, tasks)

    tasks = sorted(((task, gain([task])) for task in evaluation.tasks), key=lambda item: -item[1].value)
    means: list[tuple[str, Estimate]] = []
    if len(tasks) > 1:
        means.append((f"all {counted(len(tasks), 'task')}", gain(evaluation.tasks)))
    if len(evaluation.families) > 1:
        means += [(family, gain(members)) for family, members in evaluation.families.items()]
    shown = [estimate for _, estimate in [*means, *tasks]]
    axis = Axis.over([0.0, *(end for estimate in shown for end in (estimate.value, *estimate.interval))])
    kinds = [*["group"] * (len(means) - 1), "group last"] if means else []
    rows = [gain_row(axis, *mean, kind) for mean, kind in zip(means, kinds, strict=True)]
    rows += [gain_row(axis, *task) for task in tasks]
    return bar_table(axis, ("task", "gain"), rows, "gains")


def row(evaluation: Evaluation, shots: int, tasks: Sequence[str] | None) -> Iterator[tuple[str, str, bool]]:
    """Yield all retrievers' means over some tasks, or over all: points, interval, and whether it is the row's best.

    The oracle is never the best.
    """
    values = {name: evaluation.value(name, shots, tasks) for name in evaluation.labels}
    best = max((points(value.value) for name, value in values.items() if name != ORACLE), key=float, default="")
    for name, value in values.items():
        text = points(value.value)
        yield text, interval(value), text == best and name != ORACLE
