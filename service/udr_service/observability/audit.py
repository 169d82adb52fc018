"""The audit log: who was refused, and what changed what the service answers; never a key or a part of one."""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from enum import StrEnum

from udr.types import Json

_LOG = logging.getLogger("udr_service.audit")
_SECONDS = 1.0
# An address is shorter; what a proxy forwards in its place may not be.
_LONGEST_ADDRESS = 64


class Event(StrEnum):
    """What happened."""

    MISSING_KEY = "a request without a key was refused"
    UNKNOWN_KEY = "a request with an unknown key was refused"
    SCOPE = "a request whose key lacks the scope was refused"
    CROSS_SITE = "a request from a page of another site was refused"
    PUBLISHED = "another version is published"
    RELOADED = "reloaded"
    RELOAD_REFUSED = "a reload was refused"
    KEYS = "the keys have changed"


@dataclass(slots=True)
class _Waiting:
    """The last event of a kind that has not been logged, and how many came before it."""

    details: dict[str, Json]
    more: int


@dataclass(slots=True)
class Audit:
    """Logs events as warnings, at most one line a second of each kind, which counts those that it stands for.

    Used on the event loop only. It keeps one event of each kind, however many there are.
    """

    _logged: dict[Event, float] = field(default_factory=dict)
    _waiting: dict[Event, _Waiting] = field(default_factory=dict)
    _timers: dict[Event, asyncio.TimerHandle] = field(default_factory=dict)

    def record(self, event: Event, client: str | None = None, **details: Json) -> None:
        """Log an event, or count it if another of its kind was logged within the last second.

        Args:
            event: what happened.
            client: the address that the request came from, if a request caused it.
            details: what else to log, by name.
        """
        details = {"client": client and client[:_LONGEST_ADDRESS], **details}
        if waiting := self._waiting.get(event):
            waiting.details, waiting.more = details, waiting.more + 1
            return
        left = self._logged.get(event, -_SECONDS) + _SECONDS - time.monotonic()
        if left <= 0:
            self._log(event, details)
            return
        self._waiting[event] = _Waiting(details, 0)
        self._timers[event] = asyncio.get_running_loop().call_later(left, self._flush, event)

    def close(self) -> None:
        """Log what waits."""
        for event in list(self._waiting):
            self._timers[event].cancel()
            self._flush(event)

    def _flush(self, event: Event) -> None:
        waiting = self._waiting.pop(event)
        self._log(event, waiting.details, f", and {waiting.more:,} more like it" if waiting.more else "")

    def _log(self, event: Event, details: dict[str, Json], more: str = "") -> None:
        self._logged[event] = time.monotonic()
        _LOG.warning("%s%s", event, more, extra={"event": event.name.lower(), **details})
