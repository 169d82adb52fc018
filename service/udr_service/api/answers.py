"""Answers as JSON: a large one is written in a thread, and sent in parts as fast as its client reads them."""

import asyncio
import functools
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from udr.retrieval import Retrieval, Stopped
from udr.types import Json
from udr_service.schemas import Problem
from udr_service.serving import AnswerContext, RequestContext

INLINE_CHARACTERS = 16_384
"""Smaller answers are written on the event loop; handing them to a thread would take longer."""

_KEPT = 64
"""How many answers of a version are kept."""

_PART_BYTES = 65_536
_DEPTH = 3
"""How deep an answer is taken apart: an item of a batch, its demonstrations, and each of them."""


_Key = TypeVar("_Key")
_T = TypeVar("_T")

Item = Retrieval | Problem
"""An item of an answer that is a batch."""


def _to_json(item: Item | Iterator[Item]) -> "Json | list[Item]":
    if isinstance(item, Iterator):
        return list(item)
    return item.model_dump() if isinstance(item, Problem) else item.to_json()


def _dumped(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_to_json)


class _PartsResponse(Response):
    """JSON in parts."""

    media_type = "application/json"

    def __init__(self, parts: Sequence[bytes], sent: Callable[[], None] = lambda: None) -> None:
        super().__init__(headers={"Content-Length": str(sum(map(len, parts)))})
        self._parts, self._sent = deque(parts), sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while self._parts:
                await send({"type": "http.response.body", "body": self._parts.popleft(), "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._sent()


def in_parts(content: bytes) -> Response:
    """Return an answer of this JSON, which is sent as fast as its client reads it."""
    if len(content) <= _PART_BYTES:
        return Response(content, media_type="application/json")
    return _PartsResponse([content[start : start + _PART_BYTES] for start in range(0, len(content), _PART_BYTES)])


async def json_answer(
    context: AnswerContext,
    make: "Callable[[], Json | Mapping[str, Json | Iterator[Item] | Iterator[Json]]]",
    characters: int,
    *,
    inline: bool = True,
) -> Response:
    """Return an answer that is not validated: that would take longer than the search.

    Args:
        context: the request.
        make: returns the answer. Items become JSON one by one, and each is let go: all at once would take several times
            the memory.
        characters: about how many it has, at most.
        inline: a small one is made on the event loop.

    Raises:
        BusyError: other large answers leave no room for this one.
    """
    if inline and characters <= INLINE_CHARACTERS:
        return Response(_dumped(make()), media_type="application/json")
    room = context.room
    room.hold(characters)
    try:
        parts = await context.prepare(lambda stopped: _all_parts(_written(make(), _DEPTH), stopped))
    except BaseException:
        room.free(characters)
        raise
    return _PartsResponse(parts, lambda: room.free(characters))


async def answer_in_turns(context: AnswerContext, turns: AsyncIterator[Iterator[Item]], characters: int) -> Response:
    """Return the answer to a batch of large items: those of a turn are written before the next ones are found.

    Args:
        context: the request.
        turns: the items.
        characters: about how many the answer has, at most. Room for them is held before anything is found.

    Raises:
        BusyError: other large answers leave no room for this one.
    """
    room, parts = context.room, [b'{"results":[']
    room.hold(characters)
    try:
        async for items in turns:
            texts = _listed(items, first=len(parts) == 1)
            parts += await context.prepare(functools.partial(_all_parts, texts))
    except BaseException:
        room.free(characters)
        raise
    return _PartsResponse([*parts, b"]}"], lambda: room.free(characters))


async def kept_answer(context: RequestContext, name: str, make: Callable[[], Json]) -> Response:
    """Return an answer that depends only on the version and on the key's pools: made once, in a thread, and kept."""
    answers, key = context.active.answers, (name, context.record.pools)
    if key not in answers:
        while len(answers) >= _KEPT:
            del answers[next(iter(answers))]
    preparer = context.service.preparer
    made = made_once(
        answers, key, lambda: preparer.do(name, lambda stopped: b"".join(_parts(_written(make(), _DEPTH), stopped)))
    )
    return in_parts(await context.share(made))


def made_once(
    made: "dict[_Key, asyncio.Future[_T]]", key: _Key, make: "Callable[[], Coroutine[Any, Any, _T]]"
) -> "asyncio.Future[_T]":
    """Return what ``make`` returns, which is kept in ``made`` unless it fails; to be awaited with ``asyncio.shield``.

    Those that ask meanwhile wait for it, and it is made to the end even if all of them hang up: a crowd that asks and
    hangs up would else begin it again each time.
    """
    if key not in made:
        made[key] = future = asyncio.ensure_future(make())
        future.add_done_callback(functools.partial(_forget_failed, made, key))
    return made[key]


def _forget_failed(made: "dict[_Key, asyncio.Future[_T]]", key: _Key, future: "asyncio.Future[_T]") -> None:
    # Those who wait have the error, too.
    if (future.cancelled() or future.exception() is not None) and made.get(key) is future:
        del made[key]


def _parts(texts: Iterable[str], stopped: Callable[[], bool]) -> Iterator[bytes]:
    """Yield texts in parts of about ``_PART_BYTES``; stop early if nobody waits for them."""
    part = bytearray()
    for text in texts:
        part += text.encode()
        if len(part) >= _PART_BYTES:
            if stopped():
                return
            yield bytes(part)
            part.clear()
    yield bytes(part)


def _all_parts(texts: Iterable[str], stopped: Stopped) -> list[bytes]:
    return list(_parts(texts, stopped))


def _listed(items: Iterator[Item], *, first: bool) -> Iterator[str]:
    """Yield items of a list as JSON; the first of these is the list's first one, or not."""
    for number, item in enumerate(items):
        yield "" if first and not number else ","
        yield from _written(item, _DEPTH - 2)


def _written(value: object, depth: int) -> Iterator[str]:
    # In small calls, since each holds the interpreter.
    if isinstance(value, Item):
        value = _to_json(value)
    if not depth or not isinstance(value, dict | list | Iterator):
        yield _dumped(value)
        return
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    yield opening
    for number, item in enumerate(value):
        yield "," if number else ""
        if isinstance(value, dict):
            yield json.dumps(item, ensure_ascii=False) + ":"
            item = value[item]
        yield from _written(item, depth - 1)
    yield closing
