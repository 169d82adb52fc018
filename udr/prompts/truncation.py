"""Cutting a long text so that a prompt fits, and saying so in the text."""

from collections.abc import Callable

MARK = " […]"
"""What stands where a text was cut."""


def shortened(value: str, fits: Callable[[str], bool]) -> tuple[str, int] | None:
    """Return the longest beginning of a text that fits with a mark after it, and how many characters it keeps.

    Spaces at the cut are dropped. None where not even the mark alone fits.

    Args:
        value: the text.
        fits: whether the prompt with this in the text's place fits. A longer text should take no fewer tokens; where a
            tokenizer makes exceptions, a longer beginning may have fitted, but what is returned fits all the same.
    """

    def cut(length: int) -> str:
        return value[:length].rstrip() + MARK

    if not fits(cut(0)):
        return None
    least, most = 0, len(value)
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if fits(cut(middle)) else (least, middle)
    return cut(least), len(value[:least].rstrip())
