"""Stopping: work that nobody waits for any more ends soon."""

from collections.abc import Callable

from udr.errors import StoppedError

Stopped = Callable[[], bool]
"""Whether nobody waits any more. It is called often, in loops, so it must be fast."""


def never() -> bool:
    """Somebody waits, whatever happens."""
    return False


def refuse_stopped(stopped: Stopped) -> None:
    """Raise ``StoppedError`` if nobody waits any more."""
    if stopped():
        raise StoppedError("nobody waits for this request any more")
