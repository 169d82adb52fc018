"""The endpoints that retrieve, and those that say what is served."""

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from udr.errors import RequestError, UnknownTaskError
from udr.types import Json
from udr_service.api.problems import MEDIA_TYPE, problem_of, schema_problem
from udr_service.errors import BatchTooLargeError
from udr_service.schemas import (
    BatchAnswer,
    BatchBody,
    InfoAnswer,
    Problem,
    PromptAnswer,
    PromptBody,
    Refused,
    RetrieveAnswer,
    RetrieveBody,
    RowAnswer,
    TaskAnswer,
    TasksAnswer,
)
from udr_service.serving import Answer, Service


async def served(request: Request) -> Service:
    """Return the service that the application was made with."""
    # Were this no coroutine, FastAPI would send every request through a thread for it.
    return cast("Service", request.app.state.service)


ServiceDep = Annotated[Service, Depends(served)]

PROBLEM = {
    "description": "A problem (RFC 9457).",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
# Named for 422 too, or FastAPI would document its own shape there.
router = APIRouter(prefix="/v1", responses={"default": PROBLEM, 422: PROBLEM})


@router.post("/retrieve", response_model=RetrieveAnswer)
async def retrieve(body: RetrieveBody, service: ServiceDep, request: Request) -> JSONResponse:
    """Return the demonstrations nearest to one query."""
    with service.asking(request) as asking:
        retrieval = await asking.retrieve(body.to_request())
        # As it is: checking our own answer against its schema would take longer than searching for it.
        return JSONResponse(retrieval.to_json())


@router.post("/retrieve/batch", response_model=BatchAnswer)
async def retrieve_batch(body: BatchBody, service: ServiceDep, request: Request) -> JSONResponse:
    """Answer several requests, in order; each gets what it would get alone: an answer or a problem."""
    limit = service.settings.max_batch
    if len(body.requests) > limit:
        raise BatchTooLargeError(f"the batch has {len(body.requests)} requests; the limit is {limit}")
    items = body.items()
    with service.asking(request) as asking:
        answers = iter(await asking.answer([item.to_request() for item in items if isinstance(item, RetrieveBody)]))
    results: list[Json] = []
    for number, item in enumerate(items):
        pointer = f"/requests/{number}"
        instance = f"{request.url.path}#{pointer}"
        if isinstance(item, Refused):
            results.append(_said(schema_problem(item.errors, item.body, instance, within=pointer)))
        else:
            results.append(_result(next(answers), instance))
    return JSONResponse({"results": results})


def _result(answer: Answer, instance: str) -> Json:
    return _said(problem_of(answer, instance)) if isinstance(answer, RequestError) else answer.to_json()


def _said(problem: Problem) -> Json:
    return cast("Json", problem.model_dump())


@router.post("/prompt")
async def prompt(body: PromptBody, service: ServiceDep, request: Request) -> PromptAnswer:
    """Return a prompt with those of the k nearest demonstrations that fit the budget."""
    with service.asking(request) as asking:
        builder = asking.builder(body.budget, body.reserve, body.building())
        asked = body.to_request()
        retrieval = await asking.retrieve(asked)
        task = asking.served.retriever.tasks[body.task]
        # Counting tokens takes long enough to be felt by others on the event loop.
        built = await run_in_threadpool(builder.build, task, asked.input, retrieval, body.format)
    return PromptAnswer.model_validate(built.to_json())


@router.get("/tasks")
async def tasks(service: ServiceDep, request: Request) -> TasksAnswer:
    """Return the tasks that are served."""
    with service.asking(request) as asking:
        retriever = asking.served.retriever
        return TasksAnswer(tasks=[TaskAnswer.of(task, retriever.sizes[name]) for name, task in retriever.tasks.items()])


@router.get("/tasks/{task}")
async def task(task: str, service: ServiceDep, request: Request) -> TaskAnswer:
    """Return one task."""
    with service.asking(request) as asking:
        retriever = asking.served.retriever
        if task not in retriever.tasks:
            raise UnknownTaskError(f"unknown task {task!r}; GET /v1/tasks lists them")
        return TaskAnswer.of(retriever.tasks[task], retriever.sizes[task])


@router.get("/tasks/{task}/demonstrations/{id:path}")
async def demonstration(task: str, id: str, service: ServiceDep, request: Request) -> RowAnswer:
    """Return one row of a task's pool, as it was written."""
    with service.asking(request) as asking:
        return RowAnswer.of(task, await run_in_threadpool(asking.served.retriever.demonstration, task, id))


@router.get("/info")
async def info(service: ServiceDep, request: Request) -> InfoAnswer:
    """Return what is served, by what, within which limits."""
    with service.asking(request) as asking:
        return InfoAnswer.of(asking.served, service.settings)
