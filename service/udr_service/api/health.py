"""Operations: probes, metrics and the reload."""

import asyncio
import functools
import json
import logging
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request, Response

from udr.errors import OverloadedError
from udr_service.api.answers import made_once
from udr_service.api.playground import HEADERS
from udr_service.api.reference import reference_page
from udr_service.api.retrieval import PROBLEM, ServiceDep
from udr_service.errors import NotReadyError
from udr_service.schemas import ReloadAnswer
from udr_service.serving import Readiness, Service, record_of

_LOG = logging.getLogger(__name__)

probes = APIRouter(include_in_schema=False)
admin = APIRouter(prefix="/v1/admin", responses={"default": PROBLEM, 422: PROBLEM})


@probes.get("/livez")
async def livez() -> dict[str, str]:
    """Answer if the process is alive."""
    return {"status": "alive"}


@probes.get("/readyz")
async def readyz(service: ServiceDep, request: Request) -> dict[str, str | int]:
    """Answer if the service can count tokens, encode and search, by doing so at most once a second."""
    readiness: Readiness = request.app.state.readiness
    if service.current.draining:
        raise NotReadyError("the service is shutting down; use another instance")
    try:
        async with service.context(request) as context:
            await readiness.check(context)
    except OverloadedError:
        raise
    except Exception as error:
        # The error may hold internals, which belong only in the log.
        _LOG.exception("not ready")
        raise NotReadyError("the service cannot count tokens, encode and search; its log says why") from error
    return {"status": "ready", "workers": service.workers}


@probes.get("/v1/openapi.json")
async def description(service: ServiceDep, request: Request) -> Response:
    """Return the description of the service, in OpenAPI's format."""
    return Response(await _described(service, request, "openapi", json.dumps), media_type="application/json")


@probes.get("/docs")
async def docs(service: ServiceDep, request: Request) -> Response:
    """Return the description of the service as a page."""
    content = await _described(service, request, "docs", reference_page)
    return Response(content, headers=dict(HEADERS), media_type="text/html")


async def _described(service: Service, request: Request, name: str, shown: Callable[[Any], str]) -> str:
    """Return the description of the service as ``shown`` shows it; made once."""
    app = request.app
    made: dict[str, asyncio.Future[str]] = app.state.made
    work = functools.partial(service.preparer.do, name, lambda stopped: shown(app.openapi()))
    return await asyncio.shield(made_once(made, name, work))


@probes.get("/metrics")
async def metrics(service: ServiceDep) -> Response:
    """Return the metrics in Prometheus's text format."""
    await service.gauge()
    # In a thread, since there may be thousands of series; in one, however many ask.
    others = [] if service.team is None else await service.team.reports()
    content, media_type = await service.preparer.do("metrics", lambda stopped: service.metrics.render(others))
    return Response(content, headers={"Content-Type": media_type})


@admin.post("/reload")
async def reload(service: ServiceDep, request: Request) -> ReloadAnswer:
    """Read the keys again, and switch to the published version once it is verified and has answered a request."""
    key, client = record_of(request.scope).key, request.client
    by = "a request" if key is None else f"the key {key}"
    reloaded = await service.reloader.reload(by, client.host if client else None)
    return ReloadAnswer(index_version=reloaded.version, previous=reloaded.previous)
