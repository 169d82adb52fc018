"""Readiness: whether the service can count tokens, encode and search, found out by doing so."""

import asyncio
import time
from collections import Counter
from dataclasses import replace

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
            # Of the smallest family, since a search of thousands of tasks takes a second.
            sizes = Counter(task.family for task in context.known.values())
            family = min(sizes, key=sizes.__getitem__)
            await context.retrieve(replace(CHECK, scope=None, family=family), reserved=True)
            await run_in_threadpool(context.active.tokenizer.count, str(CHECK.input))
            self._version, self._until = context.active.version, time.perf_counter() + _REUSED_SECONDS
