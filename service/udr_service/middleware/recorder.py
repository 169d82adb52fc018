"""The recorder: every request's id, timings, log line and metrics, and the answer to every unhandled error."""

import logging
from collections.abc import Iterator

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from udr_service.api import answer_to
from udr_service.middleware.access import admitted
from udr_service.observability import Metrics, Refusal, Stage, keep_url_from_trace, request_id
from udr_service.serving import INDEX_VERSION, OVERLAY_POSITION, Current, Record

REQUEST_ID = "X-Request-Id"
SERVER_TIMING = "Server-Timing"

_LOG = logging.getLogger(__name__)
_REQUESTS = logging.getLogger("udr_service.requests")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# The status to log if the client disconnects before the answer; nginx uses the same.
_DISCONNECTED = 499
_REFUSALS = {
    401: Refusal.KEYS,
    403: Refusal.KEYS,
    408: Refusal.CONNECTION,
    429: Refusal.QUEUE_FULL,
    503: Refusal.BUSY,
    504: Refusal.DEADLINE,
    507: Refusal.STORAGE,
    _DISCONNECTED: Refusal.DISCONNECTED,
}


class Recorder:
    """Records each request, and turns unhandled errors into problems."""

    def __init__(self, app: ASGIApp, current: Current, metrics: Metrics) -> None:
        self._app, self._current, self._metrics = app, current, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = Record(request_id(Headers(scope=scope).get(REQUEST_ID)))
        record.enter(scope)
        keep_url_from_trace()
        status = _DISCONNECTED

        async def send_recorded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(dict(self._headers(record, scope)))
            await send(message)

        try:
            await self._app(scope, receive, send_recorded)
        except Exception as error:
            answer = answer_to(error, scope["path"])
            if answer.status_code == 500:
                _LOG.exception("request %s failed", record.request_id)
            if status != _DISCONNECTED:
                # The response has started; it can only be cut off.
                raise
            await answer(scope, receive, send_recorded)
        finally:
            self._report(record, scope, status)

    def _headers(self, record: Record, scope: Scope) -> Iterator[tuple[str, str]]:
        yield REQUEST_ID, record.request_id
        if scope["path"].startswith("/v1/"):
            version = record.index_version or self._current.version
            if version and admitted(scope):
                yield INDEX_VERSION, version
                if record.overlay_position is not None:
                    yield OVERLAY_POSITION, str(record.overlay_position)
            timings = record.timings().items()
            yield SERVER_TIMING, ", ".join(f"{stage};dur={1000 * seconds:.2f}" for stage, seconds in timings)
        if self._current.draining:
            # A client that keeps the connection alive would send its next request into a closed one.
            yield "Connection", "close"

    def _report(self, record: Record, scope: Scope, status: int) -> None:
        # The route's template, not the path, which may hold anything that the client sent.
        route = getattr(scope.get("route"), "path", None)
        timings = record.timings()
        self._metrics.request_answered(route, status)
        call = record.upstream
        # What the upstream takes is not this service's time.
        own = {"total": timings["total"] - (call.seconds if call else 0.0)}
        for stage, seconds in {**timings, **own}.items():
            self._metrics.stage_took(Stage(stage), seconds)
        for task in record.tasks:
            self._metrics.task_answered(task)
        if call and call.failed:
            self._metrics.refused(Refusal.UPSTREAM)
        elif status in _REFUSALS and not (call and call.status):
            self._metrics.refused(_REFUSALS[status])
        details = {
            "request_id": record.request_id,
            "method": scope["method"] if scope["method"] in _METHODS else "other",
            "route": route,
            "status": status,
            "duration_ms": round(1000 * timings.pop("total"), 3),
            "stages_ms": {stage: round(1000 * seconds, 3) for stage, seconds in timings.items()},
            "queue_size": record.queue_size,
            "batch_size": record.batch_size,
            "index_version": record.index_version,
            "key_name": record.key,
        }
        _REQUESTS.info("request", extra=details)
