"""The progress of a build: its stage, its rate, and the time left."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from udr.cli import STATUS


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """The progress of one stage of a build: ``read``, ``counted``, ``encoded``, ``fitted`` or ``indexed``.

    The total is None if unknown. The rate is in rows a second, without those reused; None before the first.
    """

    stage: str
    done: int
    total: int | None
    rate: float | None

    @property
    def seconds_left(self) -> float | None:
        """The remaining time at this rate."""
        if self.total is None or not self.rate:
            return None
        return (self.total - self.done) / self.rate

    def __str__(self) -> str:
        total = f"/{self.total:,}" if self.total is not None else ""
        rate = f", {self.rate:,.0f} rows/s" if self.rate is not None else ""
        left = f", {self.seconds_left:,.0f} s left" if self.seconds_left else ""
        return f"{self.stage} {self.done:,}{total} rows{rate}{left}"


OnProgress = Callable[[Progress], None]


class Stage:
    """Counts the rows of one stage, and calls ``on_progress`` at every advance."""

    def __init__(self, name: str, total: int | None, on_progress: OnProgress) -> None:
        self._name, self._total, self._on_progress = name, total, on_progress
        self._done = self._worked = 0
        self._started = time.monotonic()

    def advance(self, rows: int, worked: int | None = None) -> None:
        """Count rows; ``worked`` is how many of them were not reused, all by default."""
        self._done += rows
        self._worked += rows if worked is None else worked
        seconds = time.monotonic() - self._started
        rate = self._worked / seconds if self._worked and seconds else None
        self._on_progress(Progress(stage=self._name, done=self._done, total=self._total, rate=rate))


class ProgressPrinter:
    """Prints progress to stderr: one changing line on a terminal, else a line every ``seconds``."""

    def __init__(self, seconds: float = 30) -> None:
        self._terminal = sys.stderr.isatty()
        self._seconds = 0.1 if self._terminal else seconds
        self._last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        """Print the progress if it is due; a terminal shows the end of every stage."""
        finished = self._terminal and progress.done == progress.total
        if time.monotonic() - self._last < self._seconds and not finished:
            return
        self._last = time.monotonic()
        # The open line, if any, is about loading the encoder.
        STATUS.finish()
        # Spaces hide the end of a longer line.
        line = f"udr: {progress!s:<70}" if self._terminal else f"udr: {progress}"
        sys.stderr.write(line + ("\r" if self._terminal and not finished else "\n"))
        sys.stderr.flush()
