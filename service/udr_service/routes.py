"""The endpoints."""

import logging
from typing import Annotated, cast

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool

from udr.errors import OverloadedError, RequestError, UnknownTaskError
from udr.prompt import Format
from udr.types import Json, Retrieval
from udr_service.answers import (
    BatchAnswer,
    InfoAnswer,
    Problem,
    PromptAnswer,
    RetrieveAnswer,
    RowAnswer,
    TaskAnswer,
    TasksAnswer,
)
from udr_service.errors import BatchTooLargeError, NotReadyError
from udr_service.problems import MEDIA_TYPE, problem_of, schema_problem
from udr_service.schemas import BatchBody, PromptBody, Refused, RetrieveBody
from udr_service.service import Service
from udr_service.worker import Answer

_logger = logging.getLogger(__name__)


def _service(request: Request) -> Service:
    return cast("Service", request.app.state.service)


Served = Annotated[Service, Depends(_service)]

probes = APIRouter(include_in_schema=False)
_PROBLEM = {
    "description": "A problem (RFC 9457).",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
# Named for 422 too, or FastAPI would document its own shape there.
router = APIRouter(prefix="/v1", responses={"default": _PROBLEM, 422: _PROBLEM})


@probes.get("/livez")
async def livez() -> dict[str, str]:
    """Say that the process is there."""
    return {"status": "alive"}


@probes.get("/readyz")
async def readyz(service: Served) -> dict[str, str]:
    """Say that requests are answered, having answered one."""
    try:
        await service.worker.check()
    except OverloadedError:
        raise
    except Exception as error:
        # Whatever it is, the client needs to know no more than that; nothing of ours may show in an answer.
        _logger.exception("not ready")
        raise NotReadyError("the service cannot encode and search; its log says why") from error
    return {"status": "ready"}


@router.post("/retrieve", response_model=RetrieveAnswer)
async def retrieve(body: RetrieveBody, service: Served) -> Retrieval:
    """Return the demonstrations nearest to one query."""
    return await service.retrieve(body.to_request())


@router.post("/retrieve/batch", response_model=BatchAnswer)
async def retrieve_batch(body: BatchBody, service: Served, request: Request) -> dict[str, list[Retrieval | Problem]]:
    """Answer several requests, in order; each gets what it would get alone: an answer or a problem."""
    limit = service.settings.max_batch
    if len(body.requests) > limit:
        raise BatchTooLargeError(f"the batch has {len(body.requests)} requests; the limit is {limit}")
    items = body.items()
    answers = iter(await service.answer([item.to_request() for item in items if isinstance(item, RetrieveBody)]))
    results: list[Retrieval | Problem] = []
    for number, item in enumerate(items):
        pointer = f"/requests/{number}"
        instance = f"{request.url.path}#{pointer}"
        if isinstance(item, Refused):
            results.append(schema_problem(item.errors, item.body, instance, within=pointer))
        else:
            results.append(_result(next(answers), instance))
    return {"results": results}


def _result(answer: Answer, instance: str) -> Retrieval | Problem:
    return problem_of(answer, instance) if isinstance(answer, RequestError) else answer


@router.post("/prompt", response_model=PromptAnswer)
async def prompt(body: PromptBody, service: Served) -> dict[str, Json]:
    """Return a prompt with those of the k nearest demonstrations that fit the budget."""
    builder = service.builder(body.budget, body.reserve)
    asked = body.to_request()
    retrieval = await service.retrieve(asked)
    task = service.retriever.tasks[body.task]
    # Counting tokens takes long enough to be felt by others on the event loop.
    built = await run_in_threadpool(builder.build, task, asked.input, retrieval, Format(body.format))
    return {**built.to_json(), "index_version": retrieval.index_version, "model": retrieval.model}


@router.get("/tasks")
async def tasks(service: Served) -> TasksAnswer:
    """Return the tasks that are served."""
    retriever = service.retriever
    return TasksAnswer(tasks=[TaskAnswer.of(task, retriever.sizes[name]) for name, task in retriever.tasks.items()])


@router.get("/tasks/{task}")
async def task(task: str, service: Served) -> TaskAnswer:
    """Return one task."""
    retriever = service.retriever
    if task not in retriever.tasks:
        raise UnknownTaskError(f"unknown task {task!r}; GET /v1/tasks lists them")
    return TaskAnswer.of(retriever.tasks[task], retriever.sizes[task])


@router.get("/tasks/{task}/demonstrations/{id:path}")
async def demonstration(task: str, id: str, service: Served) -> RowAnswer:
    """Return one row of a task's pool, as it was written."""
    return RowAnswer.of(task, await run_in_threadpool(service.retriever.demonstration, task, id))


@router.get("/info")
async def info(service: Served) -> InfoAnswer:
    """Return what is served, by what, within which limits."""
    return InfoAnswer.of(service.retriever, service.settings)
