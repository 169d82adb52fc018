"""Tables with a chart in each row: a bar or a dot with its interval, over shared gridlines.

Places along a row are percentages, so that a drawing takes whatever width its column has, and texts keep their size.
"""

from collections.abc import Sequence
from html import escape

from udr_training.evaluation.bootstrap import Estimate
from udr_training.evaluation.report.format import interval, is_clear, points, signed
from udr_training.evaluation.report.svg import Axis, breakable, element, number

_BAR, _CAP, _DOT = 14, 8, 4.5


def bar_row(axis: Axis, label: str, estimate: Estimate, kind: str) -> str:
    """Return a row with a bar from 0 to a value, and the whisker of its interval.

    Args:
        axis: begins at 0.
        label: whose value it is.
        estimate: the value.
        kind: the bar's class.
    """
    said = f"{points(estimate.value)} {interval(estimate)}"
    drawn = _centred(_BAR, x=0.0, width=axis.share(estimate.value), class_=f"bar {kind}")
    strip = _strip(axis, f"{label}: {said}", drawn, _whisker(axis, estimate))
    return _row(label, strip, points(estimate.value), interval(estimate))


def gain_row(axis: Axis, label: str, gain: Estimate, kind: str | None = None) -> str:
    """Return a row with a gain as a dot: filled where the interval leaves out 0, hollow where it does not.

    Args:
        axis: holds 0.
        label: whose gain it is.
        gain: the gain.
        kind: the row's class.
    """
    tone = ("up" if gain.value > 0 else "down") if is_clear(gain) else "unclear"
    zero = _percent(axis.share(0.0))
    line = element("line", x1=zero, x2=zero, y1="0", y2="100%", class_="zero")
    circle = element("circle", cx=_percent(axis.share(gain.value)), cy="50%", r=_DOT, class_=f"dot {tone}")
    said = interval(gain, gain=True)
    whisker = element("g", _whisker(axis, gain), class_=tone)
    strip = _strip(axis, f"{label}: {signed(gain.value)} {said}", line, whisker, circle)
    return _row(label, strip, signed(gain.value), said, kind)


def strip_table(axis: Axis, heads: tuple[str, str], rows: Sequence[str], kind: str = "") -> str:
    """Return rows as a table, with the axis below.

    Args:
        axis: the rows'.
        heads: what the first column names, and what the last one counts.
        rows: from the functions above.
        kind: the table's class, beside its own.
    """
    # Heads are for those who hear the table; its columns speak for themselves to those who see it.
    columns = zip((heads[0], "drawing", heads[1]), ("name", "plot", "num"), strict=True)
    head = "".join(
        element("th", element("span", escape(text), class_="hidden"), scope="col", class_=class_)
        for text, class_ in columns
    )
    ticks = (
        element("text", axis.label(tick), x=_percent(axis.share(tick)), y=16, text_anchor="middle")
        for tick in axis.ticks
    )
    scale = element("svg", *ticks, class_="strip", aria_hidden="true")
    foot = element("tr", element("td"), element("td", scale, class_="plot axis"), element("td"))
    parts = element("thead", element("tr", head)), element("tbody", *rows), element("tfoot", foot)
    return element("table", *parts, class_=f"strips {kind}".strip())


def _row(label: str, strip: str, value: str, ends: str, kind: str | None = None) -> str:
    head = element("th", breakable(label), scope="row", class_="name")
    told = element("td", element("b", value), " ", element("small", ends), class_="num")
    return element("tr", head, element("td", strip, class_="plot"), told, class_=kind)


def _strip(axis: Axis, title: str, *drawn: str) -> str:
    places = [_percent(axis.share(tick)) for tick in axis.ticks]
    grid = [element("line", x1=place, x2=place, y1="0", y2="100%", class_="grid") for place in places]
    return element("svg", element("title", escape(title)), *grid, *drawn, class_="strip", role="img")


def _whisker(axis: Axis, estimate: Estimate) -> str:
    low, high = (axis.share(end) for end in estimate.interval)
    line = element("line", x1=_percent(low), x2=_percent(high), y1="50%", y2="50%", class_="whisker")
    return line + "".join(_centred(_CAP, x=end, width=None, class_="cap") for end in (low, high))


def _centred(height: float, *, x: float, width: float | None, class_: str) -> str:
    """Return a rectangle around the row's middle line; without a width it is a cap, as wide as a whisker is thick."""
    # The middle is a percentage of a height that is not known here; what is known is moved up by half.
    shift = f"translate({'-0.75' if width is None else '0'} {number(-height / 2)})"
    wide = 1.5 if width is None else _percent(width)
    return element("rect", x=_percent(x), y="50%", width=wide, height=height, transform=shift, class_=class_)


def _percent(share: float) -> str:
    return f"{number(100 * share)}%"
