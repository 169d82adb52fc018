"""The channel between a worker and the process that started it: calls in both directions over a socket of theirs."""

import asyncio
import itertools
import logging
import pickle
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple

from udr.errors import UdrError

_LENGTH_BYTES = 8

_LOG = logging.getLogger(__name__)

Handler = Callable[..., Awaitable[object]]
"""Answers a call: its name, then its arguments."""


class _Call(NamedTuple):
    number: int
    name: str
    arguments: tuple[object, ...]


class _Answer(NamedTuple):
    number: int
    result: object
    error: Exception | None


class Channel:
    """One end of the channel. Both ends are processes of one service, so what they send is trusted.

    Args:
        end: one end of a pair of sockets.
        handle: answers the calls of the other end; they may overlap.
    """

    def __init__(self, end: socket.socket, handle: Handler) -> None:
        self._end, self._handle = end, handle
        self._numbers = itertools.count()
        self._awaited: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writer: asyncio.StreamWriter | None = None
        # What is said before ``run`` begins.
        self._early: list[bytes] = []

    async def run(self) -> None:
        """Answer calls until the other end is closed; calls that wait then raise a ``ConnectionError``."""
        reader, self._writer = await asyncio.open_unix_connection(sock=self._end)
        self._writer.writelines(self._early)
        with suppress(EOFError, OSError):
            while True:
                length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES))
                message = pickle.loads(await reader.readexactly(length))
                if isinstance(message, _Answer):
                    self._resolve(message)
                else:
                    # Kept, since the loop itself holds tasks weakly.
                    task = asyncio.create_task(self._answer(message))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
        self.close()

    def close(self) -> None:
        """Close this end."""
        if self._writer is not None:
            self._writer.close()
        for future in self._awaited.values():
            if not future.done():
                future.set_exception(ConnectionError("the other process has ended"))

    async def ask(self, name: str, *arguments: object) -> Any:  # noqa: ANN401
        """Call the other end, and return its answer.

        Raises:
            ConnectionError: the other end is closed.
            Exception: what it raised.
        """
        number, future = next(self._numbers), asyncio.get_running_loop().create_future()
        self._awaited[number] = future
        try:
            self._send(_Call(number, name, arguments))
            return await future
        finally:
            del self._awaited[number]

    def tell(self, name: str, *arguments: object) -> None:
        """Call the other end, and wait for no answer."""
        with suppress(ConnectionError):
            self._send(_Call(-1, name, arguments))

    def _send(self, message: object) -> None:
        if self._writer is None:
            self._early.append(_packed(message))
        elif self._writer.is_closing():
            raise ConnectionError("the other process has ended")
        else:
            self._writer.write(_packed(message))

    def _resolve(self, answer: _Answer) -> None:
        future = self._awaited.get(answer.number)
        if future is not None and not future.done():
            future.set_result(answer.result) if answer.error is None else future.set_exception(answer.error)

    async def _answer(self, call: _Call) -> None:
        result, error = None, None
        try:
            result = await self._handle(call.name, *call.arguments)
        except Exception as raised:
            if not isinstance(raised, UdrError):
                _LOG.error("the call %s failed", call.name, exc_info=raised)
            error = _portable(raised)
        if call.number >= 0:
            with suppress(ConnectionError):
                self._send(_Answer(call.number, result, error))


def send_at_once(end: socket.socket, name: str, error: Exception) -> None:
    """Call the other end about an error, without an event loop, which this process has no more."""
    with suppress(OSError):
        end.setblocking(True)
        end.sendall(_packed(_Call(-1, name, (_portable(error),))))


def _packed(message: object) -> bytes:
    content = pickle.dumps(message)
    return len(content).to_bytes(_LENGTH_BYTES) + content


def _portable(error: Exception) -> Exception:
    """Return the error as another process can read it, without its traceback."""
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:
        copy = None
    return copy if isinstance(copy, Exception) else RuntimeError(type(error).__name__)
