"""The endpoints that retrieve and build prompts, and those that describe what is served."""

from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, cast

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.convertors import PathConvertor, register_url_convertor

from udr.errors import UdrError, UnknownTaskError
from udr.retrieval import Plan, Retrieval
from udr.store.live import row_version
from udr.types import Json
from udr_service.api.answers import Item, answer_in_turns, in_parts, json_answer, kept_answer
from udr_service.api.problems import MEDIA_TYPE, problem_of, schema_problem
from udr_service.api.strict_json import StrictRoute
from udr_service.schemas import (
    BatchAnswer,
    BatchBody,
    InfoAnswer,
    InvalidItem,
    PromptAnswer,
    PromptBody,
    RetrieveAnswer,
    RetrieveBody,
    RowAnswer,
    TaskAnswer,
    TasksAnswer,
)
from udr_service.serving import RequestContext, Service


async def service_of(request: Request) -> Service:
    """Return the service of the application."""
    # A coroutine, or FastAPI would run it in a thread for every request.
    return cast("Service", request.app.state.service)


ServiceDep = Annotated[Service, Depends(service_of)]

PROBLEM = {
    "description": "A problem (RFC 9457).",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_SHOWN, _DECISION = 400, 200
"""About how many characters a demonstration has as JSON beside its text, and an explained candidate."""

_TURN = 8
"""Items of a batch that are explained at once: those of all would take tens of megabytes, twice their JSON."""


class _RowId(PathConvertor):
    """The id of a row in a path; it may hold line breaks, at which Starlette's ``path`` would end."""

    regex = "(?s:.*)"


register_url_convertor("row", _RowId())

COUNTS = Query(description="Say how often it was retrieved, and shown in a prompt.")
"""The parameter of requests for rows."""

# For 422 too, where FastAPI would document its own shape.
router = APIRouter(prefix="/v1", responses={"default": PROBLEM, 422: PROBLEM}, route_class=StrictRoute)


@router.post("/retrieve", response_model=RetrieveAnswer)
async def retrieve(body: RetrieveBody, service: ServiceDep, request: Request) -> Response:
    """Return the demonstrations nearest to one query."""
    async with service.context(request) as context:
        retrieval = await context.retrieve(body.to_request())
        return await json_answer(context, retrieval.to_json, num_characters(retrieval))


@router.post("/retrieve/batch", response_model=BatchAnswer)
async def retrieve_batch(body: BatchBody, service: ServiceDep, request: Request) -> Response:
    """Answer several requests, in order; each gets the answer or the problem that it would get alone."""
    items = body.items()
    requests = [item.to_request() for item in items if isinstance(item, RetrieveBody)]
    async with service.context(request) as context:
        if any(each.explain for each in requests):
            plans = await context.plans(requests)
            characters = sum(most_characters(plan) for plan in plans if isinstance(plan, Plan))
            return await answer_in_turns(context, _turns(context, items, plans, request.url.path), characters)
        found = deque(await context.answer(requests))
        characters = sum(num_characters(answer) for answer in found if isinstance(answer, Retrieval))
        results = results_of(items, found, request.url.path)
        return await json_answer(context, lambda: {"results": results}, characters)


async def _turns(
    context: RequestContext, items: Sequence[RetrieveBody | InvalidItem], plans: Sequence[Plan | UdrError], path: str
) -> AsyncIterator[Iterator[Item]]:
    """Yield the answers to a few items at a time."""
    waiting = iter(plans)
    for first in range(0, len(items), _TURN):
        part = items[first : first + _TURN]
        own = [next(waiting) for item in part if isinstance(item, RetrieveBody)]
        yield results_of(part, deque(await context.answers(own)), path, first)


def results_of(
    items: Sequence[RetrieveBody | InvalidItem], found: deque[Retrieval | UdrError], path: str, first: int = 0
) -> Iterator[Item]:
    """Yield the answer to each item, taken out of what was found; ``first`` is the number of the first item."""
    for number, item in enumerate(items, start=first):
        pointer = f"/requests/{number}"
        instance = f"{path}#{pointer}"
        if isinstance(item, InvalidItem):
            yield schema_problem(item.errors, item.body, instance, within=pointer)
        elif isinstance(answer := found.popleft(), Retrieval):
            yield answer
        else:
            yield problem_of(answer, instance)


@router.post("/prompt", response_model=PromptAnswer)
async def prompt(body: PromptBody, service: ServiceDep, request: Request) -> Response:
    """Return a prompt with as many of the k nearest demonstrations as fit the budget."""
    async with service.context(request) as context:
        builder = context.builder(body.budget, body.reserve, body.building(), body.tokenizer)
        # Before anything is searched.
        builder.check(body.format)
        query = body.to_request()
        retrieval = await context.retrieve(query)
        task = context.active.retriever.tasks[body.task]
        tokenizer = context.active.name_of(builder.tokenizer)

        def make() -> Json:
            made = builder.build(task, query.input, retrieval, body.format)
            prompt_id = context.shown(task, [item.id for item in made.demonstrations], query.input)
            return cast("Json", replace(made, tokenizer=tokenizer, prompt_id=prompt_id).to_json())

        return await json_answer(
            context,
            make,
            num_characters(retrieval) + len(str(query.input)),
            inline=False,
        )


def num_characters(retrieval: Retrieval) -> int:
    """Return about how many characters a result has as JSON."""
    return sum(_SHOWN + 2 * len(item.text) for item in retrieval) + _DECISION * len(retrieval.decisions)


def most_characters(plan: Plan) -> int:
    """Return about how many characters the result of a plan has as JSON, at most."""
    explained = min(plan.candidates, plan.size) if plan.request.explain else 0
    return min(plan.num_chosen, plan.size) * (_SHOWN + 2 * plan.row_bytes) + _DECISION * explained


@router.get("/tasks", response_model=TasksAnswer)
async def tasks(service: ServiceDep, request: Request) -> Response:
    """Return all tasks."""
    async with service.context(request) as context:
        sizes = context.partitions.view.sizes

        def make() -> Json:
            answer = TasksAnswer(tasks=[TaskAnswer.of(task, sizes[name]) for name, task in context.tasks.items()])
            return cast("Json", answer.model_dump())

        return await kept_answer(context, f"tasks at {context.position}", make)


@router.get("/tasks/{task}")
async def task(task: str, service: ServiceDep, request: Request) -> TaskAnswer:
    """Return one task."""
    async with service.context(request) as context:
        context.require_known(task)
        return TaskAnswer.of(context.known[task], context.partitions.view.sizes[task])


@router.get("/tasks/{task}/demonstrations/{id:row}", response_model=RowAnswer)
async def demonstration(
    task: str,
    id: str,
    service: ServiceDep,
    request: Request,
    counts: Annotated[bool, COUNTS] = False,
) -> Response:
    """Return one demonstration of a task, as it was written; its version is the ETag."""
    async with service.context(request) as context:
        context.require(task)
        row = await run_in_threadpool(context.active.retriever.demonstration, task, id)
        if (own := context.record.filter) is not None and not own.matches(task, row):
            # As if there were no such row.
            raise UnknownTaskError(f"task {task!r} has no demonstration {id!r}")
        answer = RowAnswer.of(task, row, (await context.counts(task, [id]))[id] if counts else None)
        response = in_parts(answer.model_dump_json().encode())
        response.headers["ETag"] = f'"{row_version(row)}"'
        return response


@router.get("/info", response_model=InfoAnswer)
async def info(service: ServiceDep, request: Request) -> Response:
    """Return the served tasks, the active index version and the limits."""
    workers = service.workers
    async with service.context(request) as context:

        def make() -> Json:
            answer = InfoAnswer.of(context.active, context.tasks, service.settings, workers)
            return cast("Json", answer.model_dump())

        return await kept_answer(context, f"info of {workers} at {context.position}", make)
