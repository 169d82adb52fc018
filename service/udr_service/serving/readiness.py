"""Readiness: whether the service can count tokens, encode and search, found out by doing so."""

import asyncio
import time

from fastapi.concurrency import run_in_threadpool

from udr_service.serving.service import RequestContext
from udr_service.serving.versions import CHECK

_REUSED_SECONDS = 1.0


class Readiness:
    """Checks the version that answers, at most once a second; failures are never reused."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._version, self._until = "", 0.0

    async def check(self, context: RequestContext) -> None:
        """Count, encode and search once, past the cache; raise whatever keeps the version from answering."""
        async with self._lock:
            if context.active.version == self._version and time.perf_counter() < self._until:
                return
            await context.retrieve(CHECK, reserved=True)
            await run_in_threadpool(context.active.tokenizer.count, str(CHECK.input))
            self._version, self._until = context.active.version, time.perf_counter() + _REUSED_SECONDS
