"""The progress of a build: its stage, its rate, and the time left."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from udr.cli import STATUS


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """The progress of one stage of a build: ``read``, ``counted``, ``encoded``, ``fitted`` or ``indexed``.

    The total is None if unknown. The rate is in rows a second, without those reused; None before the first. ``seconds``
    have passed since the stage began, and ``reused`` rows took none of them. ``fitted`` counts texts in place of rows.
    """

    stage: str
    done: int
    total: int | None
    rate: float | None
    seconds: float = 0.0
    reused: int = 0


OnProgress = Callable[[Progress], None]


class Stage:
    """Counts the rows of one stage, and calls ``on_progress`` at every advance, and at once if the total is known."""

    def __init__(self, name: str, total: int | None, on_progress: OnProgress) -> None:
        self._name, self._total, self._on_progress = name, total, on_progress
        self._done = self._worked = 0
        self._started = time.monotonic()
        if total:
            self.advance(0)

    def advance(self, rows: int, worked: int | None = None) -> None:
        """Count rows; ``worked`` is how many of them were not reused, all by default."""
        self._done += rows
        self._worked += rows if worked is None else worked
        seconds = time.monotonic() - self._started
        rate = self._worked / seconds if self._worked and seconds else None
        reused = self._done - self._worked
        self._on_progress(
            Progress(stage=self._name, done=self._done, total=self._total, rate=rate, seconds=seconds, reused=reused)
        )


_TITLES = {
    "read": "reading",
    "counted": "counting tokens",
    "encoded": "encoding",
    "fitted": "fitting label heads",
    "indexed": "indexing",
}


def show_progress(progress: Progress) -> None:
    """Show the progress of a build on stderr; see ``udr.cli.STATUS``."""
    # A label head may read the fields of a row apart.
    unit = "texts" if progress.stage == "fitted" else "rows"
    title = _TITLES[progress.stage]
    STATUS.progress(title, progress.done, progress.total, progress.seconds, unit, progress.reused)
