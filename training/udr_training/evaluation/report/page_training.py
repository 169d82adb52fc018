"""The page's training sections: learning curves, NDCG by iteration, and the map of a pool."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from udr_training.evaluation.report.charts import Line, label_looks, legend, line_chart, scatter
from udr_training.evaluation.report.embedding_map import LabelMap
from udr_training.evaluation.report.metrics_log import MEAN, History
from udr_training.evaluation.report.svg import Look, element


def training_section(histories: Sequence[History]) -> str:
    """Return the learning curves of the runs that were compared, and their NDCG by iteration."""
    note = (
        "NDCG says how near the encoder's order of candidates comes to the order of the language model's scores, "
        "on queries that training did not see; 1 is the same order."
    )
    if not histories:
        note = "No run was compared, so there is no training to show."
    content = [element("h2", "Training"), element("p", note, class_="note")]
    known = [history for history in histories if any(iteration.ndcg for iteration in history.iterations)]
    if len(known) > 1:
        lines = _lines({history.run: _by_iteration(history, MEAN) for history in known})
        title = "NDCG by iteration, all runs"
        content.append(element("div", _figure(title, lines, "trainings done", "NDCG, mean of all tasks"), class_="one"))
    for history in histories:
        content.append(element("h3", escape(history.run)))
        if history.problem:
            content.append(element("p", escape(f"No curves: {history.problem}."), class_="note"))
        content.append(element("div", *_curves(history), class_="figures"))
    return element("section", *content)


def _curves(history: History) -> Iterator[str]:
    losses = {f"iteration {one.number}": _floats(one.losses) for one in history.iterations if one.losses}
    if losses:
        yield _figure("Learning curve", _lines(losses), "step", "loss")
    means = {
        f"iteration {one.number}": _floats({step: _mean(values) for step, values in one.ndcg.items()})
        for one in history.iterations
        if one.ndcg
    }
    if not means:
        return
    yield _figure("NDCG by step", _lines(means), "step", "NDCG, mean of all tasks")
    validations = [values for one in history.iterations for values in one.ndcg.values()]
    tasks = dict.fromkeys(task for values in validations for task in values if task != MEAN)
    thin = [Line(task, _by_iteration(history, task), None) for task in tasks]
    mean = _lines({"mean of all tasks": _by_iteration(history, MEAN)})
    note = "Each thin line is a task; point at it for its name."
    yield _figure("NDCG by iteration", [*thin, *mean], "trainings done", "NDCG", note)


_Points = tuple[tuple[float, float], ...]


def _floats(values: Mapping[int, float]) -> _Points:
    return tuple((float(step), value) for step, value in values.items())


def _lines(points: Mapping[str, _Points]) -> list[Line]:
    return [Line(label, own, Look.of(place)) for place, (label, own) in enumerate(points.items())]


def _by_iteration(history: History, task: str) -> _Points:
    """Return a task's NDCG after each iteration: at the validation with the best mean, whose model was kept.

    Before them, what the encoder had before it was trained at all.
    """
    points = []
    for place, iteration in enumerate(history.iterations):
        means = {step: _mean(own) for step, own in iteration.ndcg.items()}
        untrained = means.pop(0, None)
        if place == 0 and untrained is not None and task in (own := {**iteration.ndcg[0], MEAN: untrained}):
            points.append((0.0, own[task]))
        if not means:
            continue
        # Of equal ones the first, as the training takes it.
        best = max(means, key=lambda step: (means[step], -step))
        own = {**iteration.ndcg[best], MEAN: means[best]}
        if task in own:
            points.append((iteration.number + 1.0, own[task]))
    return tuple(points)


def _mean(values: Mapping[str, float]) -> float:
    """Return a validation's mean over tasks, as it was written, or else computed."""
    return values[MEAN] if MEAN in values else sum(values.values()) / len(values)


def _figure(title: str, lines: Sequence[Line], x_title: str, y_title: str, note: str = "") -> str:
    chart = line_chart(lines, x_title, y_title, title)
    looks = legend({line.label: line.look for line in lines if line.look is not None})
    caption = element("figcaption", escape(note)) if note else ""
    return element("figure", element("h4", escape(title)), chart, looks, caption)


def map_section(drawn: LabelMap) -> str:
    """Return the map of one pool's demonstrations, before and after training."""
    title = element("h2", "A pool as the encoder sees it")
    if drawn.problem:
        note = f"No map: {drawn.problem}."
        return element("section", title, element("p", escape(note), class_="note"))
    note = (
        f"{len(drawn.labels)} demonstrations of {drawn.task}, each where its vector's two directions of largest "
        "variance put it. After training, what helps the same questions should lie together."
    )
    figures = []
    for panel in drawn.panels:
        what = f"Map of {drawn.task}, {panel.title}"
        shares = " and ".join(f"{share:.0%}".replace("%", " %") for share in panel.shares)
        near = f"{panel.neighbours:.0%}".replace("%", " %")
        said = f"{near} have a nearest neighbour with the same label. The two directions show {shares} of the variance."
        heading, caption = element("h4", escape(panel.title)), element("figcaption", escape(said))
        figures.append(element("figure", heading, scatter(panel.points, drawn.labels, what), caption))
    content = element("div", *figures, class_="figures maps"), legend(label_looks(drawn.labels), lines=False)
    return element("section", title, element("p", escape(note), class_="note"), *content)
