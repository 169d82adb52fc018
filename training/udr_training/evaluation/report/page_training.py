"""The page's training: learning curves, NDCG by iteration, and the map of a pool."""

from collections.abc import Iterator, Mapping, Sequence

from udr_training.evaluation.report.charts import Figure, Line, line_figure, scatter
from udr_training.evaluation.report.embedding_map import LabelMap, Panel
from udr_training.evaluation.report.metrics_log import MEAN, History
from udr_training.evaluation.report.svg import Look

_Points = tuple[tuple[float, float], ...]

_MOST = 1.0
"""The highest NDCG: the order is that of the scores."""


def runs_figure(histories: Sequence[History]) -> Figure | None:
    """Return the NDCG of all runs by iteration; None if fewer than two have any."""
    runs = [history for history in histories if any(iteration.ndcg for iteration in history.iterations)]
    if len(runs) < 2:
        return None
    lines = _lines({history.run: _by_iteration(history, MEAN) for history in runs})
    title = _title(max((_tasks(history) for history in runs), key=len))
    return line_figure("NDCG by iteration, all runs", lines, "trainings done", title, y_end=_MOST)


def curves(history: History) -> Iterator[Figure]:
    """Yield the loss and the NDCG of a run by step, and its NDCG by iteration."""
    losses, means = {}, {}
    for iteration in history.iterations:
        name = f"iteration {iteration.number}"
        if iteration.losses:
            losses[name] = _points(iteration.losses)
        if iteration.ndcg:
            means[name] = _points({step: _mean(values) for step, values in iteration.ndcg.items()})
    if losses:
        yield line_figure("Learning curve", _lines(losses), "step", "loss")
    if not means:
        return
    tasks = _tasks(history)
    yield line_figure("NDCG by step", _lines(means), "step", _title(tasks), y_end=_MOST)
    if len(tasks) == 1:
        lines, note = _lines({tasks[0]: _by_iteration(history, tasks[0])}), ""
    else:
        thin = [Line(task, _by_iteration(history, task), None) for task in tasks]
        lines = [*thin, *_lines({"mean of all tasks": _by_iteration(history, MEAN)})]
        note = "Each thin line is a task; point at it for its name."
    yield line_figure("NDCG by iteration", lines, "trainings done", "NDCG", note=note, y_end=_MOST)


def _tasks(history: History) -> list[str]:
    """Return the tasks that a run validated."""
    validations = [values for iteration in history.iterations for values in iteration.ndcg.values()]
    return list(dict.fromkeys(task for values in validations for task in values if task != MEAN))


def _title(tasks: Sequence[str]) -> str:
    return "NDCG, mean of all tasks" if len(tasks) > 1 else "NDCG"


def _points(values: Mapping[int, float]) -> _Points:
    return tuple((float(step), value) for step, value in values.items())


def _lines(points: Mapping[str, _Points]) -> list[Line]:
    return [Line(label, points[label], Look.of(index)) for index, label in enumerate(points)]


def _by_iteration(history: History, task: str) -> _Points:
    """Return a task's NDCG after each iteration, at the validation whose model was kept: that with the best mean.

    The first point is the untrained encoder's.
    """
    points = []
    for index, iteration in enumerate(history.iterations):
        means = {step: _mean(values) for step, values in iteration.ndcg.items()}
        # The first of equal means, as in the training.
        kept = max((step for step in means if step), key=lambda step: (means[step], -step), default=None)
        steps = {0: 0.0} if index == 0 and 0 in means else {}
        if kept is not None:
            steps[kept] = iteration.number + 1.0
        for step, x in steps.items():
            values = {**iteration.ndcg[step], MEAN: means[step]}
            if task in values:
                points.append((x, values[task]))
    return tuple(points)


def _mean(values: Mapping[str, float]) -> float:
    """Return a validation's mean over tasks, as logged or else computed."""
    return values[MEAN] if MEAN in values else sum(values.values()) / len(values)


def map_figure(label_map: LabelMap, panel: Panel) -> Figure:
    """Return one encoder's map of a pool."""
    first, second, near = (f"{share:.0%}".replace("%", " %") for share in (*panel.shares, panel.neighbours))
    note = (
        f"{near} have a nearest neighbour with the same label. "
        f"The two directions show {first} and {second} of the variance."
    )
    chart = scatter(panel.points, label_map.labels, f"Map of {label_map.task}, {panel.title}")
    return Figure(panel.title, chart, note=note)
