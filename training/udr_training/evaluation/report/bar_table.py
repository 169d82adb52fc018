"""Tables with a chart in each row: a bar or a dot with its interval, over shared gridlines.

Positions along a row are percentages, so that a chart fills its column at any width, and texts keep their size.
"""

from collections.abc import Sequence

from markupsafe import Markup

from udr_training.evaluation.intervals import Estimate
from udr_training.evaluation.report.format import interval, is_clear, points, signed
from udr_training.evaluation.report.svg import Axis, breakable, element, number

_BAR, _CAP, _DOT = 14, 8, 4.5
_SIDE_BY_SIDE = 5  # ticks whose labels fit on a phone


def bar_row(axis: Axis, label: str, estimate: Estimate, kind: str) -> Markup:
    """Return a row with a bar of class ``kind`` from 0, where the axis starts, to a value, and with its interval."""
    bar = _rectangle(x="0%", width=_percent(axis.share(estimate.value)), height=_BAR, class_=f"bar {kind}")
    return _row(axis, label, points(estimate.value), interval(estimate), bar, _whisker(axis, estimate))


def gain_row(axis: Axis, label: str, gain: Estimate, kind: str | None = None) -> Markup:
    """Return a row of class ``kind`` with a gain as a dot, filled if the interval excludes 0, on an axis with 0."""
    tone = ("up" if gain.value > 0 else "down") if is_clear(gain) else "unclear"
    zero = _vertical(axis, 0.0, "zero")
    dot = element("circle", cx=_percent(axis.share(gain.value)), cy="50%", r=_DOT, class_=f"dot {tone}")
    whisker = element("g", _whisker(axis, gain), class_=tone)
    return _row(axis, label, signed(gain.value), interval(gain, gain=True), zero, whisker, dot, kind=kind)


def bar_table(axis: Axis, heads: tuple[str, str], rows: Sequence[Markup], kind: str = "") -> Markup:
    """Return rows on the same axis as a table, with the names of its first and last column, and the axis below."""
    # The heads are for screen readers; the columns are clear to those who see them.
    columns = {"name": heads[0], "plot": "drawing", "num": heads[1]}.items()
    head = [element("th", element("span", text, class_="hidden"), scope="col", class_=name) for name, text in columns]
    scale = element("svg", *_tick_labels(axis), class_="strip", aria_hidden="true")
    foot = element("tr", element("td"), element("td", scale, class_="plot axis"), element("td"))
    parts = element("thead", element("tr", *head)), element("tbody", *rows), element("tfoot", foot)
    return element("table", *parts, class_=f"strips {kind}".strip())


def _row(axis: Axis, label: str, value: str, ends: str, *drawn: Markup, kind: str | None = None) -> Markup:
    grid = [_vertical(axis, tick, "grid") for tick in axis.ticks]
    title = element("title", f"{label}: {value} {ends}")
    strip = element("svg", title, *grid, *drawn, class_="strip", role="img")
    head = element("th", breakable(label), scope="row", class_="name")
    numbers = element("td", element("b", value), " ", element("small", ends), class_="num")
    return element("tr", head, element("td", strip, class_="plot"), numbers, class_=kind)


def _tick_labels(axis: Axis) -> list[Markup]:
    """Return the ticks' labels; of many, all but every second one from 0 are of class minor, which a phone hides."""
    zero = min(range(len(axis.ticks)), key=lambda place: abs(axis.ticks[place]))
    labels = []
    for place, tick in enumerate(axis.ticks):
        kind = "minor" if len(axis.ticks) > _SIDE_BY_SIDE and (place - zero) % 2 else None
        x = _percent(axis.share(tick))
        labels.append(element("text", axis.label(tick), x=x, y=16, text_anchor="middle", class_=kind))
    return labels


def _vertical(axis: Axis, value: float, kind: str) -> Markup:
    x = _percent(axis.share(value))
    return element("line", x1=x, x2=x, y1="0", y2="100%", class_=kind)


def _whisker(axis: Axis, estimate: Estimate) -> Markup:
    low, high = (axis.share(end) for end in estimate.interval)
    line = element("line", x1=_percent(low), x2=_percent(high), y1="50%", y2="50%", class_="whisker")
    caps = [_rectangle(x=_percent(end), width=1.5, height=_CAP, class_="cap", left=0.75) for end in (low, high)]
    return line + Markup().join(caps)


def _rectangle(x: str, width: float | str, height: float, class_: str, left: float = 0.0) -> Markup:
    """Return a rectangle around the row's middle, moved to the left."""
    # The row's height is unknown here: y is its middle, and the transform moves up by half of the rectangle.
    shift = f"translate({number(-left)} {number(-height / 2)})"
    return element("rect", x=x, y="50%", width=width, height=height, transform=shift, class_=class_)


def _percent(share: float) -> str:
    return f"{number(100 * share)}%"
