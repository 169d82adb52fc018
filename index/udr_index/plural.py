"""Words of what people read."""


def counted(number: int, one: str, several: str | None = None) -> str:
    """Return a number with its noun: ``1 row``, ``2 rows``."""
    return f"{number} {one if number == 1 else several or one + 's'}"
