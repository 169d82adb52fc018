"""The upstream: the language model's server, to which the gateway sends chats; the only file here with httpx2.

Its answer is passed on byte for byte as it comes, and breaks off where the upstream's does.
"""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx2
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from udr import __version__
from udr.client import open_http
from udr.errors import ConfigError, reason
from udr_service.auth import PREFIX
from udr_service.errors import BusyError, UnauthorizedError, UpstreamError, UpstreamTimeoutError
from udr_service.serving import Count, Record, Shares, UpstreamCall, free_body
from udr_service.settings import Settings

_LOG = logging.getLogger(__name__)
_PATH = "/chat/completions"
_CONNECT_SECONDS = 10.0
# Kept for less than the 5 s after which some servers close them, see udr.client.
_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=256, keepalive_expiry=4.0)

Headers = Iterable[tuple[bytes, bytes]]

# Those of one connection (RFC 9110), and those that are about this service and its clients.
_HOP = rb"connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade"
_NOT_SENT = re.compile(
    _HOP + rb"|host|content-length|expect|cookie|origin|referer|forwarded|x-forwarded-.*|x-real-ip|sec-.*"
    rb"|x-api-key|x-udr-.*"
)
_NOT_PASSED_ON = re.compile(
    _HOP + rb"|date|server|set-cookie|alt-svc|strict-transport-security|access-control-.*|x-udr-.*"
)
_REQUEST_ID, _UPSTREAM_REQUEST_ID = b"x-request-id", b"x-upstream-request-id"
_UDR_KEY = re.compile(rb"bearer +" + PREFIX.encode(), re.IGNORECASE)


class Upstream:
    """The upstream, by its URL up to and including ``/v1``. Used on the event loop only.

    Args:
        settings: its URL and the operator's key for it, how long an answer may take, and how many may be open.
        shares: what other workers have open.

    Raises:
        ConfigError: the key is not one that a header can carry, or a variable names a proxy that cannot be used.
    """

    def __init__(self, settings: Settings, shares: Shares) -> None:
        assert settings.upstream is not None, "without an upstream there is no gateway"
        self._url, self._key = httpx2.URL(settings.upstream), _authorization(settings)
        self._seconds, self._most = settings.upstream_timeout_seconds, settings.upstream_requests
        self._shares, self._open = shares, 0
        self._http = open_http(
            httpx2.AsyncClient,
            settings.upstream,
            {
                "limits": _LIMITS,
                "timeout": httpx2.Timeout(None, connect=_CONNECT_SECONDS),
                # No cookie of one client's answer goes with another's request.
                "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=[])),
                "headers": {"User-Agent": f"udr/{__version__}", "Accept-Encoding": "identity"},
            },
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def request(self, scope: Scope, content: bytes) -> httpx2.Request:
        """Return the request that forwards a client's with other content, its headers and parameters.

        Raises:
            UnauthorizedError: the client sent a key of udr where one of the upstream belongs.
        """
        headers = [(name, value) for name, value in scope["headers"] if not _NOT_SENT.fullmatch(name)]
        if self._key is not None:
            headers = [(name, value) for name, value in headers if name != b"authorization"]
            headers.append((b"authorization", self._key))
        elif any(name == b"authorization" and _UDR_KEY.match(value) for name, value in headers):
            raise UnauthorizedError(
                "the header Authorization, which goes to the upstream, holds a key of udr; send it in X-Api-Key"
            )
        path, _, query = self._url.raw_path.partition(b"?")
        query = b"&".join(part for part in (query, scope["query_string"]) if part)
        raw_path = path.rstrip(b"/") + _PATH.encode() + (b"?" + query if query else b"")
        headers.append((b"content-length", str(len(content)).encode()))
        url = self._url.copy_with(raw_path=raw_path)
        return self._http.build_request("POST", url, headers=headers, content=_once([content]))

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Count a request; raise a ``BusyError`` if too many are open."""
        if self._shares.hold(Count.UPSTREAM, self._open + 1) > self._most:
            self._shares.hold(Count.UPSTREAM, self._open)
            raise BusyError(f"{self._most} requests wait for the upstream, the limit; try again later")
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            self._shares.hold(Count.UPSTREAM, self._open)

    @property
    def seconds(self) -> float:
        """How long an answer may take, from the request to its last byte."""
        return self._seconds

    async def send(self, request: httpx2.Request) -> httpx2.Response:
        """Return the upstream's answer as soon as it begins."""
        return await self._http.send(request, stream=True)


class UpstreamAnswer(Response):
    """The upstream's answer to a request, which is sent when this is; with more headers."""

    def __init__(self, upstream: Upstream, request: httpx2.Request, record: Record, headers: Mapping[str, str]) -> None:
        super().__init__()
        self._upstream, self._request, self._record = upstream, request, record
        self._added = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the request, and pass on the answer.

        Raises:
            BusyError: too many requests wait for the upstream.
            UpstreamError: the upstream cannot be reached, or hung up.
            UpstreamTimeoutError: it took too long to begin its answer.
        """
        with self._upstream.entered(), self._measured() as call:
            try:
                async with asyncio.timeout(self._upstream.seconds):
                    await self._pass_on(call, scope, send)
            except TimeoutError as error:
                seconds = f"{self._upstream.seconds:g} seconds, the limit of this service"
                if not call.cut_off():
                    raise UpstreamTimeoutError(f"the upstream did not answer within {seconds}") from error
                _LOG.warning("an answer of the upstream is cut off after %s", seconds)
            except httpx2.RequestError as error:
                if not call.cut_off():
                    _LOG.warning("the upstream %s: %s", self._request.url.host, reason(error))
                    raise UpstreamError(f"the upstream cannot be reached, or hung up ({_kind(error)})") from error
                _LOG.warning("the upstream broke off an answer: %s", reason(error))

    async def _pass_on(self, call: UpstreamCall, scope: Scope, send: Send) -> None:
        answer = await self._upstream.send(self._request)
        try:
            call.begin(answer.status_code)
            free_body(scope)
            head = [*_passed_on(answer.headers.raw), *self._added]
            await send({"type": "http.response.start", "status": answer.status_code, "headers": head})
            async for part in answer.aiter_raw():
                await send({"type": "http.response.body", "body": part, "more_body": True})
        finally:
            await answer.aclose()
        # Not if the answer breaks off: the client must see that, too.
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    @contextmanager
    def _measured(self) -> Iterator[UpstreamCall]:
        self._record.upstream = call = UpstreamCall()
        try:
            yield call
        finally:
            call.seconds = time.perf_counter() - call.started


def _passed_on(headers: Headers) -> Iterator[tuple[bytes, bytes]]:
    for name, value in headers:
        lowered = name.lower()
        if not _NOT_PASSED_ON.fullmatch(lowered):
            # This service's answers have its own ids, which its log has, too.
            yield (_UPSTREAM_REQUEST_ID if lowered == _REQUEST_ID else lowered), value


async def _once(parts: list[bytes]) -> AsyncIterator[bytes]:
    """Yield each part, and keep it no longer: an answer may take minutes."""
    while parts:
        yield parts.pop(0)


def _kind(error: Exception) -> str:
    # Its text may name the upstream, which is the operator's business.
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()


def _authorization(settings: Settings) -> bytes | None:
    key = settings.upstream_key.get_secret_value() if settings.upstream_key else ""
    if not key:
        return None
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ConfigError("UDR_UPSTREAM_KEY must be ASCII without spaces; is there a line break at its end?")
    return f"Bearer {key}".encode()
