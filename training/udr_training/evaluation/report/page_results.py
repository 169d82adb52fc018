"""The page's result sections: means by family and by shots, gains, and the table of all tasks."""

from collections.abc import Callable, Iterator, Sequence
from html import escape

from udr_training.evaluation.bootstrap import Estimate
from udr_training.evaluation.report.bar_table import bar_row, gain_row, strip_table
from udr_training.evaluation.report.charts import Line, legend, line_chart
from udr_training.evaluation.report.format import counted, interval, points, signed, with_shots
from udr_training.evaluation.report.svg import Axis, Look, breakable, element
from udr_training.evaluation.results import Evaluation
from udr_training.evaluation.retriever_names import ORACLE


def family_section(evaluation: Evaluation) -> str:
    """Return the means of all tasks and of each family: a card each, a bar a retriever."""
    note = "Points from 0 to 100; each task counts the same. The line on a bar is its 95 % interval."
    if ORACLE in evaluation.labels:
        note += " The oracle chooses by the gold answers: its dashed bar is headroom, no retriever."
    several = len(evaluation.families) > 1
    whole = "All tasks" if len(evaluation.tasks) > 1 else evaluation.tasks[0]
    groups = {whole: evaluation.tasks, **(evaluation.families if several else {})}
    shown = [
        evaluation.value(name, shots, tasks)
        for shots in evaluation.shots
        for name in evaluation.labels
        for tasks in groups.values()
    ]
    axis = Axis.over([0.0, *(place for one in shown for place in (one.value, one.interval[1]))], num_ticks=4)

    def cards(shots: int) -> str:
        drawn = (_card(evaluation, shots, title, tasks, axis) for title, tasks in groups.items())
        return element("div", *drawn, class_="cards")

    heading = "Means by family" if several else "Means"
    return _section(heading, note, *_by_shots(evaluation.shots, cards))


def _card(evaluation: Evaluation, shots: int, title: str, tasks: Sequence[str], axis: Axis) -> str:
    rows = [
        bar_row(axis, evaluation.labels[name], evaluation.value(name, shots, tasks), look.kind)
        for name, look in _looks(evaluation).items()
    ]
    heading = element("h3", f"{escape(title)} ", element("small", counted(len(tasks), "task")))
    return element("article", heading, strip_table(axis, ("retriever", "points"), rows), class_="card")


def _looks(evaluation: Evaluation) -> dict[str, Look]:
    """Return the look of each retriever: a colour of its own where it is neither baseline nor oracle."""
    kinds = {evaluation.baseline: "base", ORACLE: "headroom"}
    others = [name for name in evaluation.labels if name not in kinds]
    kinds |= {name: Look.of(place).kind for place, name in enumerate(others)}
    return {name: Look(kinds[name], place) for place, name in enumerate(evaluation.labels)}


def shots_section(evaluation: Evaluation) -> str:
    """Return the means over the number of demonstrations, where there are several."""
    if len(evaluation.shots) < 2:
        return ""
    lines, looks = [], {evaluation.labels[name]: look for name, look in _looks(evaluation).items()}
    for name, label in evaluation.labels.items():
        values = {shots: evaluation.value(name, shots) for shots in sorted(evaluation.shots)}
        heights = tuple((float(shots), value.value) for shots, value in values.items())
        lines.append(Line(label, heights, looks[label], tuple(value.interval for value in values.values())))
    chart = line_chart(lines, "demonstrations a prompt", "points, mean of all tasks", "Mean by demonstrations")
    note = "Mean of all tasks with 95 % intervals; retrievers stand a little apart, so that none hides another."
    figure = element("figure", chart, legend(looks))
    return _section("How many demonstrations", note, element("div", figure, class_="one"))


def gain_section(evaluation: Evaluation) -> str:
    """Return what each retriever gains over the baseline: all tasks, families, and tasks from the best to the worst."""
    shots = [number for number in evaluation.shots if number] or list(evaluation.shots)
    if not evaluation.others:
        return ""
    note = (
        "Points more or less, on the same test rows, with 95 % intervals. A filled dot: the interval leaves out 0. "
        "A hollow one: the difference may be chance."
    )
    heading = f"Gain over {evaluation.labels[evaluation.baseline]} by task"

    def gains(number: int) -> str:
        best = evaluation.best(number)
        first, *others = sorted(evaluation.others, key=lambda name: name != best)
        drawn = [element("h4", escape(evaluation.labels[first])), _gain_table(evaluation, first, number)]
        for name in others:
            mean = evaluation.gain(name, number)
            title = f"{evaluation.labels[name]}: {signed(mean.value)} {interval(mean, gain=True)}"
            drawn.append(element("details", element("summary", escape(title)), _gain_table(evaluation, name, number)))
        return element("div", *drawn)

    return _section(heading, note, *_by_shots(shots, gains))


def _gain_table(evaluation: Evaluation, name: str, shots: int) -> str:
    def gain(tasks: Sequence[str]) -> Estimate:
        return evaluation.gain(name, shots, tasks)

    families = evaluation.families if len(evaluation.families) > 1 else {}
    groups = [(f"all {counted(len(evaluation.tasks), 'task')}", gain(evaluation.tasks))]
    groups += [(family, gain(tasks)) for family, tasks in families.items()]
    tasks = sorted(((task, gain([task])) for task in evaluation.tasks), key=lambda item: -item[1].value)
    if len(tasks) == 1:
        groups = []
    shown = [estimate for _, estimate in [*groups, *tasks]]
    axis = Axis.over([0.0, *(place for one in shown for place in (one.value, *one.interval))])
    rows = [
        gain_row(axis, label, estimate, "group last" if place == len(groups) - 1 else "group")
        for place, (label, estimate) in enumerate(groups)
    ]
    rows += [gain_row(axis, label, estimate) for label, estimate in tasks]
    return strip_table(axis, ("task", "gain"), rows, "gains")


def value_section(evaluation: Evaluation) -> str:
    """Return the table of all values."""
    note = "Points with 95 % intervals; bold is the best of a row, the oracle aside."
    return _section("Values by task", note, *_by_shots(evaluation.shots, lambda shots: _value_table(evaluation, shots)))


def _value_table(evaluation: Evaluation, shots: int) -> str:
    heads = [("task", None), ("metric", None), ("rows", "r"), *((label, "r") for label in evaluation.labels.values())]
    head = element("tr", *(element("th", escape(text), scope="col", class_=class_) for text, class_ in heads))
    rows = []
    for family, tasks in evaluation.families.items():
        if len(evaluation.families) > 1:
            span = str(len(heads))
            rows.append(element("tr", element("th", escape(family), colspan=span, scope="rowgroup"), class_="group"))
        for task in tasks:
            one = evaluation.result(task, next(iter(evaluation.labels)), shots)
            told = element("td", one.metric) + element("td", f"{one.num_rows:,}", class_="r")
            rows.append(
                element("tr", element("th", breakable(task), scope="row"), told, *_cells(evaluation, shots, [task]))
            )
    last = element("tr", element("th", "mean", scope="row"), "<td></td><td></td>", *_cells(evaluation, shots, None))
    parts = element("thead", head), element("tbody", *rows), element("tfoot", last)
    return element("div", element("table", *parts, class_="values"), class_="wide", tabindex="0")


def _cells(evaluation: Evaluation, shots: int, tasks: Sequence[str] | None) -> Iterator[str]:
    values = {name: evaluation.value(name, shots, tasks) for name in evaluation.labels}
    best = max((points(value.value) for name, value in values.items() if name != ORACLE), key=float, default="")
    for name, value in values.items():
        text = points(value.value)
        shown = element("b", text) if text == best and name != ORACLE else element("span", text)
        yield element("td", shown, element("small", interval(value)), class_="r")


def _by_shots(shots: Sequence[int], draw: Callable[[int], str]) -> Iterator[str]:
    """Yield the drawing of the largest number of demonstrations, and the others to unfold."""
    first, *others = sorted(shots, reverse=True)
    if others:
        yield element("h3", f"With {with_shots(first)}")
    yield draw(first)
    for other in others:
        yield element("details", element("summary", f"With {with_shots(other)}"), draw(other))


def _section(heading: str, note: str, *content: str) -> str:
    return element("section", element("h2", escape(heading)), element("p", escape(note), class_="note"), *content)
