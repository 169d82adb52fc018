"""The reader of fields that filters name for the first time: that takes seconds in a large pool."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from udr.errors import OverloadedError
from udr.retrieval import Retriever
from udr_service.serving.work.preparer import WAITING
from udr_service.serving.work.priority import step_back

_Fields = Mapping[str, frozenset[str]]
_Key = tuple[Retriever, frozenset[tuple[str, frozenset[str]]]]


class FieldReader:
    """Reads fields of all rows, in a thread of its own, so that no other request waits for it.

    A reading goes on when nobody waits for it any more: it may take longer than a request may, and the next request
    finds it done. Used on the event loop only.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="udr-fields", initializer=step_back)
        self._reading: dict[_Key, asyncio.Future[None]] = {}

    async def read(self, retriever: Retriever, fields: _Fields) -> None:
        """Return once these fields of each task are read.

        Raises:
            OverloadedError: too many readings wait already.
            ArtifactError: the rows cannot be read.
        """
        key = retriever, frozenset(fields.items())
        if key not in self._reading:
            if len(self._reading) >= WAITING:
                raise OverloadedError(f"{WAITING} filters wait for their fields, the limit; try again later")
            loop = asyncio.get_running_loop()
            self._reading[key] = future = loop.run_in_executor(self._thread, retriever.read_fields, fields)
            future.add_done_callback(lambda done: self._end(key, done))
        await asyncio.shield(self._reading[key])

    def close(self) -> None:
        """Drop what waits, and end the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _end(self, key: _Key, done: "asyncio.Future[None]") -> None:
        del self._reading[key]
        if not done.cancelled():
            # Those who wait have the error; if nobody does, the next request has it.
            done.exception()
