"""How far a build is: what it does, how fast, and when it will be done."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a stage of a build is.

    Attributes:
        stage: what is done: ``read``, ``counted``, ``encoded``, ``indexed``.
        done: rows that it is done for.
        total: rows in all; None while that is not known.
        rate: rows a second, those that were there before left out; None before the first.
    """

    stage: str
    done: int
    total: int | None
    rate: float | None

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at this rate."""
        if self.total is None or not self.rate:
            return None
        return (self.total - self.done) / self.rate


OnProgress = Callable[[Progress], None]
"""Is told how far a build is."""


class Stage:
    """Counts the rows of one stage, and tells.

    Args:
        name: of the stage.
        total: its rows; None where that is not known.
        on_progress: called at every advance.
    """

    def __init__(self, name: str, total: int | None, on_progress: OnProgress) -> None:
        self._name, self._total, self._told = name, total, on_progress
        self._done = self._worked = 0
        self._started = time.monotonic()

    def advance(self, rows: int, worked: int | None = None) -> None:
        """Count rows; ``worked`` is how many of them cost work now, all by default."""
        self._done += rows
        self._worked += rows if worked is None else worked
        seconds = time.monotonic() - self._started
        rate = self._worked / seconds if self._worked and seconds else None
        self._told(Progress(stage=self._name, done=self._done, total=self._total, rate=rate))


class Shown:
    """Shows progress on stderr: on a terminal one line that changes, else a line now and then.

    Args:
        seconds: between two lines where stderr is no terminal.
    """

    def __init__(self, seconds: float = 30) -> None:
        self._terminal = sys.stderr.isatty()
        self._seconds = 0.1 if self._terminal else seconds
        self._last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        """Show a progress; that a stage is done is always shown on a terminal."""
        whole = progress.done == progress.total
        if time.monotonic() - self._last < self._seconds and not (whole and self._terminal):
            return
        self._last = time.monotonic()
        ending = "\r" if self._terminal and not whole else "\n"
        # Blanks hide the end of a longer line before it.
        sys.stderr.write(f"udr: {sentence(progress):<70}".rstrip(None if ending == "\n" else "") + ending)
        sys.stderr.flush()


def sentence(progress: Progress) -> str:
    """Return a progress as a line for people."""
    total = f"/{progress.total:,}" if progress.total is not None else ""
    rate = f", {progress.rate:,.0f} rows/s" if progress.rate is not None else ""
    left = progress.seconds_left
    return f"{progress.stage} {progress.done:,}{total} rows{rate}" + (f", {left:,.0f} s left" if left else "")
