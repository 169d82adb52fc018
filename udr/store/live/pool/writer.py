"""The thread that writes for all threads of a process."""

import threading
from collections.abc import Callable
from queue import SimpleQueue

from udr.errors import ConfigError


class Writer:
    """Does some work in a thread of its own, which starts with the first.

    Other threads may still write when the main thread has ended, which a thread pool of Python refuses by then.

    Args:
        work: does everything that waits, or nothing if an earlier call has done it.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._signals: SimpleQueue[bool] = SimpleQueue()
        self._lock, self._closed = threading.Lock(), False
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Have the work done, after what is being done."""
        with self._lock:
            if self._closed:
                raise ConfigError("this pool is closed; open the index again")
            if self._thread is None:
                # A process may end though it has closed nothing. Who waits for a result keeps it from ending.
                self._thread = threading.Thread(target=self._run, name="udr-write", daemon=True)
                self._thread.start()
            self._signals.put(True)

    def close(self) -> None:
        """End the thread once all work is done."""
        with self._lock:
            self._closed = True
        if self._thread is not None:
            self._signals.put(False)
            self._thread.join()

    def _run(self) -> None:
        while self._signals.get():
            self._work()
