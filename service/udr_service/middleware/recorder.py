"""What every request and every answer passes: its record, its headers, its key."""

import logging
from collections.abc import Iterator

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from udr_service.api import answer, problem_of
from udr_service.observability import Metrics, Refusal, Stage, keep_url_from_trace, request_id, request_line
from udr_service.serving import Current, Record

INDEX_VERSION = "X-Udr-Index-Version"
REQUEST_ID = "X-Request-Id"
SERVER_TIMING = "Server-Timing"

_LOG = logging.getLogger(__name__)
_GONE = 499
_REFUSALS = {
    401: Refusal.KEYS,
    403: Refusal.KEYS,
    429: Refusal.QUEUE_FULL,
    504: Refusal.DEADLINE,
    _GONE: Refusal.DISCONNECTED,
}
"""What a request is logged with whose client hung up before it was answered; the number is nginx's."""


class Recorder:
    """Keeps the record of each request, and answers with a problem what nothing further in has answered.

    Args:
        app: what answers.
        current: names the version that answers, and says whether the service is about to end.
        metrics: hear of every request.
    """

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
        status = _GONE

        async def send_recorded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in self._headers(record, scope["path"]):
                    headers[name] = value
            await send(message)

        try:
            await self._app(scope, receive, send_recorded)
        except Exception as error:
            problem = problem_of(error, scope["path"])
            if problem.status == 500:
                _LOG.exception("request %s failed", record.request_id)
            if status != _GONE:
                # The answer has begun; all that is left is to break it off.
                raise
            await answer(problem)(scope, receive, send_recorded)
        finally:
            self._tell(record, scope, status)

    def _headers(self, record: Record, path: str) -> Iterator[tuple[str, str]]:
        yield REQUEST_ID, record.request_id
        if path.startswith("/v1/"):
            if version := record.index_version or self._current.version:
                yield INDEX_VERSION, version
            yield SERVER_TIMING, ", ".join(f"{stage};dur={1000 * seconds:.2f}" for stage, seconds in record.timed())
        if self._current.draining:
            # Whoever keeps this connection would send the next request into a closed one.
            yield "Connection", "close"

    def _tell(self, record: Record, scope: Scope, status: int) -> None:
        # The route's template, not the path: a path may hold what is the client's.
        route = getattr(scope.get("route"), "path", None)
        stages = dict(record.timed())
        self._metrics.request_answered(route, status)
        for stage, seconds in stages.items():
            self._metrics.stage_took(Stage(stage), seconds)
        for task in record.tasks:
            self._metrics.task_answered(task)
        if status in _REFUSALS:
            self._metrics.refused(_REFUSALS[status])
        request_line(
            request_id=record.request_id,
            method=scope["method"],
            route=route,
            status=status,
            duration_ms=1000 * stages.pop("total"),
            stages_ms={stage: 1000 * seconds for stage, seconds in stages.items()},
            queue_size=record.queue_size,
            batch_size=record.batch_size,
            index_version=record.index_version,
            key_name=record.key,
        )
