"""SVG elements, axes and marks; colours are CSS classes, so that the page has two themes."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup, escape

SERIES = 8
"""The number of series colours in the page's style, ``series-0`` to ``series-7``."""

_DASHES = 4


def element(tag: str, *content: str, **attributes: str | float | None) -> Markup:
    """Return one element; ``class_`` is the attribute class, underscores in other names are hyphens.

    Args:
        tag: the element's name.
        content: texts, which are escaped, and markup, which is not.
        attributes: texts are escaped, numbers have at most two decimals, None is left out.
    """
    opening = [tag]
    for key, value in attributes.items():
        if value is not None:
            text = value if isinstance(value, str) else number(value)
            opening.append(f'{key.rstrip("_").replace("_", "-")}="{escape(text)}"')
    return Markup(f"<{' '.join(opening)}>{Markup().join(content)}</{tag}>")


def breakable(text: str) -> Markup:
    """Return a name that may break after underscores and slashes."""
    return Markup(re.sub(r"([_/])", r"\1<wbr>", str(escape(text))))


def number(value: float) -> str:
    """Return a coordinate in its shortest form."""
    return f"{round(value, 2) + 0.0:g}"


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale with ascending ticks at round numbers, of which the first and the last are its ends."""

    ticks: tuple[float, ...]

    @staticmethod
    def over(values: Iterable[float], *, num_ticks: int = 5, whole: bool = False, end: float | None = None) -> "Axis":
        """Return an axis over at least one value, with about ``num_ticks`` ticks, whole numbers if ``whole``.

        Ticks are 1, 2 or 5 times a power of ten apart. ``end``, a power of ten that no value exceeds, is the last one.
        """
        covered = [*values, *([] if end is None else [end])]
        low, high = min(covered), max(covered)
        if low == high == end:
            low = end / 2
        elif low == high:
            low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
        rough = (high - low) / num_ticks
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
        if whole:
            step = max(1.0, step)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        return Axis(tuple(index * step for index in range(first, last + 1)))

    def share(self, value: float) -> float:
        """Return the position of a value between the ends, 0 to 1; values outside are clipped."""
        low, high = self.ticks[0], self.ticks[-1]
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def label(self, tick: float) -> str:
        """Return a tick as text, with the decimals that the step needs."""
        step = self.ticks[1] - self.ticks[0]
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        return f"{tick + 0.0:,.{decimals}f}".replace("-", "−")


@dataclass(frozen=True, slots=True)
class Look:
    """The look of a series: a colour and, for readers who do not see colours, a shape.

    Attributes:
        kind: the class of its colour.
        shape: an index; the shapes of marks and the dashes of lines repeat.
    """

    kind: str
    shape: int

    @staticmethod
    def of(index: int) -> "Look":
        """Return the look of a series by its index."""
        return Look(f"series-{index % SERIES}", index)

    @property
    def line(self) -> str:
        """The class of its lines."""
        return f"line {self.kind} dash-{self.shape % _DASHES}"


def mark(look: Look, x: float, y: float, size: float = 4.0) -> Markup:
    """Return a series' mark at a point; there are as many shapes as colours."""
    s, long, short = number(size), number(1.3 * size), number(0.4 * size)
    plus = f"M-{short} -{s}H{short}V-{short}H{s}V{short}H{short}V{s}H-{short}V{short}H-{s}V-{short}H-{short}Z"
    shapes = (
        f"M-{s} 0A{s} {s} 0 1 0 {s} 0A{s} {s} 0 1 0 -{s} 0Z",
        f"M-{s} -{s}H{s}V{s}H-{s}Z",
        f"M0 -{long}L{long} {s}H-{long}Z",
        f"M0 -{long}L{long} 0L0 {long}L-{long} 0Z",
        f"M0 {long}L{long} -{s}H-{long}Z",
        plus,
        f"M-{long} -{short}H{long}V{short}H-{long}Z",
        plus,
    )
    shape = look.shape % len(shapes)
    # The last shape is the plus, rotated.
    rotation = " rotate(45)" if shape == len(shapes) - 1 else ""
    transform = f"translate({number(x)} {number(y)}){rotation}"
    return element("path", d=shapes[shape], transform=transform, class_=f"mark {look.kind}")
