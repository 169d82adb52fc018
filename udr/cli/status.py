"""What a command says on stderr while it works: notices, the step that it is at, and progress.

On a terminal, the line of a step or of progress is rewritten every second, so nothing looks as if it hung. Elsewhere
a step is a line, and others tell that it lasts, after 2, 4, 8, 16, 32 and then every 30 seconds; progress is a line now
and then. There are no bars in a log file.
"""

import logging
import shutil
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

TICK_SECONDS = 1.0
"""How often an open line is rewritten on a terminal."""

STEP_SECONDS = 2.0
"""After how long a step is written again elsewhere; the time doubles, up to ``LINE_SECONDS``."""

LINE_SECONDS = 30.0
"""How often progress is written elsewhere."""


class Status(logging.Handler):
    """The lines of a command on stderr; thread-safe.

    As a log handler it shows records as notices; a record that ends with ``...`` begins a step.

    Args:
        stream: where to write; None is standard error as it is at that time.
        now: the clock, in seconds.
        tick: whether a thread rewrites the open line; otherwise ``tick`` is called from outside.
    """

    def __init__(
        self, stream: TextIO | None = None, now: Callable[[], float] = time.monotonic, *, tick: bool = True
    ) -> None:
        super().__init__()
        self._given, self._now, self._ticks = stream, now, tick
        self._line: Callable[[float], str] | None = None
        self._counts = False
        self._since = self._written = self._due = 0.0
        # Rewrites the open line, and ends when there is none.
        self._ticker: threading.Thread | None = None
        self._never = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Show a log record."""
        try:
            message = self.format(record)
            (self.begin if message.endswith("...") else self.notice)(message)
        except Exception:
            self.handleError(record)

    def notice(self, text: str) -> None:
        """Write a line; it stands above a line of progress, and ends a step."""
        with _LOCK:
            if self._line is not None and self._counts:
                self._write(f"\r\x1b[Kudr: {text}\n")
                self.tick()
            else:
                self.finish()
                self._write(f"udr: {text}\n")

    def begin(self, text: str) -> None:
        """Begin a step, which lasts until the next line; on a terminal, its line is erased if it was short."""
        with _LOCK:
            self.finish()
            if not self._stream.isatty():
                self._write(f"udr: {text}\n")
            self._open(lambda seconds: f"udr: {text}{f' {seconds:.0f} s' if seconds >= 1 else ''}", counts=False)

    def progress(self, label: str, done: int, total: int | None, seconds: float, unit: str, before: int = 0) -> None:
        """Show how much of a step is done after some seconds, at what rate, and how much time is left.

        ``before`` of them were already done when the seconds began; the total is None if it is not known.
        """
        with _LOCK:
            complete = total is not None and done >= total
            if self._line is not None and not self._counts:
                self.finish()
            if self._stream.isatty():
                self._open(
                    lambda more: f"udr: {label}: {meter(done, total, seconds + more, unit, before, more)}", counts=True
                )
            elif complete or self._now() - self._written >= LINE_SECONDS:
                self._write(f"udr: {label}: {meter(done, total, seconds, unit, before)}\n")
                self._written = self._now()
            if complete:
                self.finish()

    def finish(self) -> None:
        """End the open line, if there is one."""
        with _LOCK:
            line, self._line = self._line, None
            if line is not None and self._stream.isatty():
                seconds = self._now() - self._since
                # Short steps are not worth a line.
                self._write(f"\r{_fitted(line(seconds))}\n" if seconds >= 1 or self._counts else "\r\x1b[K")

    def tick(self) -> None:
        """Rewrite the open line, with the seconds since it was opened; without a terminal, add it if it is due."""
        with _LOCK:
            if self._line is None:
                return
            seconds = self._now() - self._since
            if self._stream.isatty():
                self._write(f"\r{_fitted(self._line(seconds))}")
            elif seconds >= self._due:
                self._write(f"{self._line(seconds)}\n")
                self._due = seconds + min(seconds, LINE_SECONDS)

    @property
    def _stream(self) -> TextIO:
        return self._given or sys.stderr

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def _open(self, line: Callable[[float], str], *, counts: bool) -> None:
        self._line, self._counts, self._since, self._due = line, counts, self._now(), STEP_SECONDS
        self.tick()
        if self._ticks and self._ticker is None:
            self._ticker = threading.Thread(target=self._run, name="udr-status", daemon=True)
            self._ticker.start()

    def _run(self) -> None:
        while True:
            self._never.wait(TICK_SECONDS)
            with _LOCK:
                if self._line is None:
                    self._ticker = None
                    return
                self.tick()


def meter(done: int, total: int | None, seconds: float, unit: str, before: int = 0, waited: float = 0.0) -> str:
    """Return how much is done, the rate and the time left.

    Args:
        done: of ``total``.
        total: all; None if that is not known.
        seconds: since work began on the first of those not done before.
        unit: what is counted.
        before: how many were done before.
        waited: how many of the seconds have passed since the last one was done; the rate leaves them out.
    """
    counted = f"{done:,}{f'/{total:,}' if total is not None else ''} {unit}"
    if done <= before or seconds <= waited:
        return f"{counted}, {duration(seconds)}"
    rate = (done - before) / (seconds - waited)
    if total is None:
        return f"{counted}, {_rate(rate)} {unit}/s"
    if done >= total:
        return f"{counted} in {duration(seconds)}, {_rate(rate)} {unit}/s"
    left = max(0.0, (total - done) / rate - waited)
    return f"{counted}, {_rate(rate)} {unit}/s, {duration(left)} left"


def duration(seconds: float) -> str:
    """Return seconds in words: ``42 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _fitted(text: str) -> str:
    """Return a text cut to the terminal's width, which erases what the line showed before."""
    return f"{text[: shutil.get_terminal_size().columns - 1]}\x1b[K"


# Lines of different objects would mix: standard error is one.
_LOCK = threading.RLock()

STATUS = Status()
"""The status of this process's command."""
