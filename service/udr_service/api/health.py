"""What those ask who look after a service: does it live, does it answer, how does it do; to take another version."""

import logging

from fastapi import APIRouter, Request, Response

from udr.errors import OverloadedError
from udr_service.api.retrieval import PROBLEM, ServiceDep
from udr_service.errors import NotReadyError
from udr_service.schemas import ReloadAnswer

_LOG = logging.getLogger(__name__)

probes = APIRouter(include_in_schema=False)
admin = APIRouter(prefix="/v1/admin", responses={"default": PROBLEM, 422: PROBLEM})


@probes.get("/livez")
async def livez() -> dict[str, str]:
    """Say that the process is there."""
    return {"status": "alive"}


@probes.get("/readyz")
async def readyz(service: ServiceDep, request: Request) -> dict[str, str]:
    """Say that requests are answered, having answered one."""
    if service.current.draining:
        raise NotReadyError("the service is about to end; ask another")
    try:
        with service.asking(request) as asking:
            await asking.check()
    except OverloadedError:
        raise
    except Exception as error:
        # Whatever it is, the client needs to know no more than that; nothing of ours may show in an answer.
        _LOG.exception("not ready")
        raise NotReadyError("the service cannot encode and search; its log says why") from error
    return {"status": "ready"}


@probes.get("/metrics")
async def metrics(service: ServiceDep) -> Response:
    """Return the metrics, as Prometheus reads them."""
    service.metrics.queue_changed(service.worker.waiting)
    content, media_type = service.metrics.render()
    return Response(content, headers={"Content-Type": media_type})


@admin.post("/reload")
async def reload(service: ServiceDep) -> ReloadAnswer:
    """Switch to the version that is published, once it is verified and has answered; read the keys again."""
    reloaded = await service.reloader.reload()
    return ReloadAnswer(index_version=reloaded.version, previous=reloaded.previous)
