"""What a worker does, wherever its process runs: it loads a model once, and does shards with it."""

import logging
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from udr import __version__
from udr.errors import UdrError, reason
from udr.models.runner.scheduler import Answer, Hello
from udr.models.runner.shards import Load


class ModelWorker:
    """A model, and what it logged since it was last asked."""

    def __init__(self) -> None:
        self._node = f"{socket.gethostname()} (process {os.getpid()})"
        self._work: Callable[[Any], Any] | None = None
        self._notices = _Notices()
        for package in ("udr", "udr_index", "udr_training"):
            logging.getLogger(package).addHandler(self._notices)

    def start(self, load: Load[Any, Any]) -> Hello:
        """Load the model."""
        try:
            identity, self._work = load()
        except Exception as error:
            return Hello(self._node, __version__, error=_told(error), notices=self._notices.taken())
        return Hello(self._node, __version__, identity, notices=self._notices.taken())

    def work(self, work: Any) -> Answer:  # noqa: ANN401
        """Do a shard's work."""
        assert self._work is not None
        started, result, error = time.monotonic(), None, ""
        try:
            result = self._work(work)
        except Exception as raised:
            error = _told(raised)
        return Answer(result, error, time.monotonic() - started, self._notices.taken())


class _Notices(logging.Handler):
    """Keeps warnings, which the driver shows."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._texts = list[str]()

    def emit(self, record: logging.LogRecord) -> None:
        self._texts.append(self.format(record))

    def taken(self) -> tuple[str, ...]:
        """Return the warnings since the last call."""
        texts, self._texts = tuple(self._texts), []
        return texts


def _told(error: Exception) -> str:
    # Errors travel as text: many of them cannot be pickled.
    return str(error) if isinstance(error, UdrError) else f"{type(error).__name__}: {reason(error)}"
