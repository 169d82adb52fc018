"""Operations: probes, metrics and the reload."""

import json
import logging

from fastapi import APIRouter, Request, Response

from udr.errors import OverloadedError
from udr_service.api.playground import HEADERS
from udr_service.api.reference import reference_page
from udr_service.api.retrieval import PROBLEM, ServiceDep
from udr_service.errors import NotReadyError
from udr_service.schemas import ReloadAnswer
from udr_service.serving import Readiness, record_of

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
        with service.context(request) as context:
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
    state = request.app.state
    if state.description is None:
        state.description = await service.preparer.do("openapi", lambda stopped: json.dumps(request.app.openapi()))
    return Response(state.description, media_type="application/json")


@probes.get("/docs")
async def docs(service: ServiceDep, request: Request) -> Response:
    """Return the description of the service as a page."""
    state = request.app.state
    if state.reference is None:
        state.reference = await service.preparer.do("docs", lambda stopped: reference_page(request.app.openapi()))
    return Response(state.reference, headers=dict(HEADERS), media_type="text/html")


@probes.get("/metrics")
async def metrics(service: ServiceDep) -> Response:
    """Return the metrics in Prometheus's text format."""
    service.metrics.queue_changed(service.worker.waiting)
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
