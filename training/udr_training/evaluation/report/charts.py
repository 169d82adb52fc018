"""Charts with two axes: lines over steps, and points on a map; and their legends."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from udr_training.evaluation.report.svg import SERIES, Axis, Look, element, mark, number

_WIDTH, _HEIGHT = 380, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 28, 42
_INSET = 16
_MOST_MARKS = 25
# The offset between the intervals of series at the same x.
_OFFSET = 6
_MAP = 360
_EDGE = 14


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart.

    Attributes:
        label: its name in the legend.
        points: (x, y), by ascending x.
        look: its look; None for a thin line without marks.
        intervals: (low, high) at each point, or empty.
    """

    label: str
    points: tuple[tuple[float, float], ...]
    look: Look | None
    intervals: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with its title, legend and note; each of these may be empty."""

    title: str
    chart: Markup
    legend: str = ""
    note: str = ""


def line_chart(lines: Sequence[Line], x_title: str, y_title: str, title: str, *, y_end: float | None = None) -> Markup:
    """Return lines over an axis of whole numbers, with gridlines, the axes' titles and the intervals.

    Args:
        lines: each with at least one point; later ones are drawn on top.
        x_title: the x axis's title.
        y_title: the y axis's title.
        title: the chart's title, for screen readers.
        y_end: where the y axis ends, if no value can exceed it; a power of ten.
    """
    x_axis = Axis.over([x for line in lines for x, _ in line.points], whole=True)
    heights = [y for line in lines for _, y in line.points]
    y_axis = Axis.over([*heights, *(end for line in lines for ends in line.intervals for end in ends)], end=y_end)
    content = _grid(x_axis, y_axis, x_title, y_title)
    for index, line in enumerate(lines):
        offset = _OFFSET * (index - (len(lines) - 1) / 2) if line.intervals else 0.0
        content.append(_line(line, offset, x_axis, y_axis))
    description = f"{title}. " + "; ".join(_in_words(line) for line in lines if line.look is not None)
    titles = element("title", title), element("desc", description)
    return element("svg", *titles, *content, class_="chart", viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img")


def line_figure(
    title: str,
    lines: Sequence[Line],
    x_title: str,
    y_title: str,
    *,
    heading: bool = True,
    note: str = "",
    y_end: float | None = None,
) -> Figure:
    """Return a line chart with its legend and note, and with its title as heading unless the page has one."""
    chart = line_chart(lines, x_title, y_title, title, y_end=y_end)
    looks = {line.label: line.look for line in lines if line.look is not None}
    return Figure(title if heading else "", chart, legend(looks), note)


def _in_words(line: Line) -> str:
    (first_x, first), (last_x, last) = line.points[0], line.points[-1]
    if len(line.points) == 1:
        return f"{line.label}: {first:.3g} at {first_x:g}"
    return f"{line.label}: from {first:.3g} at {first_x:g} to {last:.3g} at {last_x:g}"


def _x(axis: Axis, value: float) -> float:
    return _LEFT + _INSET + axis.share(value) * (_WIDTH - _LEFT - _RIGHT - 2 * _INSET)


def _y(axis: Axis, value: float) -> float:
    return _HEIGHT - _BOTTOM - axis.share(value) * (_HEIGHT - _TOP - _BOTTOM)


def _grid(x_axis: Axis, y_axis: Axis, x_title: str, y_title: str) -> list[Markup]:
    grid = [element("text", y_title, x=0, y=12, class_="axis-title")]
    for tick in y_axis.ticks:
        y = _y(y_axis, tick)
        grid.append(element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="grid"))
        grid.append(element("text", y_axis.label(tick), x=_LEFT - 8, y=y + 4, text_anchor="end"))
    for tick in x_axis.ticks:
        x = _x(x_axis, tick)
        grid.append(element("text", x_axis.label(tick), x=x, y=_HEIGHT - _BOTTOM + 18, text_anchor="middle"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return [*grid, element("text", x_title, x=middle, y=_HEIGHT - 6, text_anchor="middle", class_="axis-title")]


def _line(line: Line, offset: float, x_axis: Axis, y_axis: Axis) -> Markup:
    look, coordinates = line.look, [(_x(x_axis, x) + offset, _y(y_axis, y)) for x, y in line.points]
    path = "M" + "L".join(f"{number(x)} {number(y)}" for x, y in coordinates)
    if look is None:
        return element("path", element("title", line.label), d=path, class_="line faint")
    intervals = [
        element("line", x1=x, x2=x, y1=_y(y_axis, low), y2=_y(y_axis, high), class_=f"line {look.kind}")
        for (x, _), (low, high) in zip(coordinates, line.intervals, strict=False)
    ]
    marked = coordinates if len(coordinates) <= _MOST_MARKS else coordinates[-1:]
    title, drawn = element("title", _in_words(line)), element("path", d=path, class_=look.line)
    return element("g", title, drawn, *intervals, *(mark(look, x, y) for x, y in marked))


def legend(looks: Mapping[str, Look], *, lines: bool = True) -> Markup:
    """Return the legend of labels and their looks, with the marks on lines or alone."""
    items = []
    for label, look in looks.items():
        line = element("path", d="M0 7H26", class_=look.line) if lines else ""
        swatch = element("svg", line, mark(look, 13, 7), class_="swatch", width=26, height=14, aria_hidden="true")
        items.append(element("li", swatch, element("span", label)))
    return element("ul", *items, class_="legend")


def label_looks(labels: Sequence[str]) -> dict[str, Look]:
    """Return the looks of all points' labels, the most frequent first; if there are too many, the rest are ``REST``."""
    distinct = [label for label, _ in sorted(Counter(labels).items(), key=lambda item: (-item[1], item[0]))]
    marked = distinct if len(distinct) <= SERIES else [*distinct[: SERIES - 1], REST]
    return {label: Look.of(index) for index, label in enumerate(marked)}


REST = "all others"
"""The name of the labels without their own mark in the legend."""


def scatter(points: NDArray[np.float64], labels: Sequence[str], title: str) -> Markup:
    """Return points [count, 2] on a map, marked by label; both directions have the same scale."""
    looks = label_looks(labels)
    middle = (points.max(axis=0) + points.min(axis=0)) / 2
    reach = float(np.abs(points - middle).max()) or 1.0
    coordinates = (points - middle) / reach * (_MAP / 2 - _EDGE) * (1, -1) + _MAP / 2
    content = [element("title", title)]
    content.append(element("rect", x=0.5, y=0.5, width=_MAP - 1, height=_MAP - 1, rx=6, class_="frame"))
    for (x, y), label in zip(coordinates.tolist(), labels, strict=True):
        content.append(mark(looks[label if label in looks else REST], x, y, 3.0))
    return element("svg", *content, class_="chart map", viewBox=f"0 0 {_MAP} {_MAP}", role="img")
