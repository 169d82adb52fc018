"""A model for workers, whose module a new process imports in no time."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Result = tuple[int, str, bool, int]
"""The square, the threads, whether the process is of a group, and its number."""


@dataclass(frozen=True)
class Squares:
    """Loads a model that squares numbers, and dies of those that a file is named by, which it removes."""

    deaths: Path
    identity: str = "squares"

    def __call__(self) -> tuple[str, Callable[[int], Result]]:
        return self.identity, self._square

    def _square(self, number: int) -> Result:
        if number == 13:
            raise ValueError("13 has no square")
        if left := sorted(self.deaths.glob(f"{number}-*")):
            left[0].unlink()
            os.write(2, b"out of memory\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return number * number, os.environ["OMP_NUM_THREADS"], "RANK" in os.environ, os.getpid()
