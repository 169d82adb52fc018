"""Waiting for what a service, a thread or a process does in its own time."""

import time
from collections.abc import Callable


def until(condition: Callable[[], object], seconds: float = 120.0) -> float:
    """Wait until a condition holds, and return how long that took, in seconds.

    The limit is for what never happens: a machine that runs other tests, too, takes many times as long as an idle one.
    """
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"not within {seconds:g} seconds"
        time.sleep(0.01)
    return time.monotonic() - started
