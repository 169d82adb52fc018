"""The endpoints of a service of shards: those of an index that read, with the same answers."""

from collections import deque
from dataclasses import replace
from typing import Annotated, cast

from fastapi import APIRouter, Depends, Request, Response

from udr import __version__
from udr.errors import InvalidInputError, UnknownTaskError
from udr.prompts import PromptBuilder
from udr.retrieval import Retrieval
from udr.types import Json
from udr_service.api.answers import json_answer
from udr_service.api.retrieval import num_characters, results_of
from udr_service.api.shards.service import ShardsService
from udr_service.api.strict_json import StrictRoute
from udr_service.errors import NotReadyError
from udr_service.schemas import (
    BatchBody,
    PromptBody,
    RetrieveBody,
    RowAnswer,
    ShardAnswer,
    ShardedTaskAnswer,
    ShardsInfoAnswer,
    TaskAnswer,
    TasksAnswer,
)


async def _service_of(request: Request) -> ShardsService:
    return cast("ShardsService", request.app.state.service)


_ServiceDep = Annotated[ShardsService, Depends(_service_of)]

router = APIRouter(prefix="/v1", route_class=StrictRoute)
probes = APIRouter()


@router.post("/retrieve")
async def retrieve(body: RetrieveBody, service: _ServiceDep, request: Request) -> Response:
    """Return the demonstrations nearest to one query, of all shards that answer."""
    async with service.context(request) as context:
        retrieval = await context.retrieve(body.to_request())
        return await json_answer(context, retrieval.to_json, num_characters(retrieval))


@router.post("/retrieve/batch")
async def retrieve_batch(body: BatchBody, service: _ServiceDep, request: Request) -> Response:
    """Answer several requests, in order; each gets the answer or the problem that it would get alone."""
    items = body.items()
    async with service.context(request) as context:
        found = deque(await context.answer([item.to_request() for item in items if isinstance(item, RetrieveBody)]))
        characters = sum(num_characters(answer) for answer in found if isinstance(answer, Retrieval))
        results = results_of(items, found, request.url.path)
        return await json_answer(context, lambda: {"results": results}, characters)


@router.post("/prompt")
async def prompt(body: PromptBody, service: _ServiceDep, request: Request) -> Response:
    """Return a prompt with as many of the k nearest demonstrations as fit the budget."""
    async with service.context(request) as context:
        if body.budget > (limit := service.settings.max_budget):
            raise InvalidInputError(f"the budget must be at most {limit} tokens; found {body.budget}")
        name, counter = service.counter(body.tokenizer)
        builder = PromptBuilder(counter, body.budget, body.reserve, **body.building())
        builder.check(body.format)
        query = body.to_request()
        retrieval = await context.retrieve(query)
        task = service.placements.tasks[body.task]

        def make() -> Json:
            made = builder.build(task, query.input, retrieval, body.format)
            return cast("Json", replace(made, tokenizer=name).to_json())

        characters = num_characters(retrieval) + len(str(query.input))
        return await json_answer(context, make, characters, inline=False)


@router.get("/tasks")
async def tasks(service: _ServiceDep, request: Request) -> TasksAnswer:
    """Return all tasks."""
    async with service.context(request) as context:
        sizes = service.placements.sizes
        return TasksAnswer(tasks=[TaskAnswer.of(task, sizes[name]) for name, task in context.tasks.items()])


@router.get("/tasks/{task}")
async def task(task: str, service: _ServiceDep, request: Request) -> TaskAnswer:
    """Return one task."""
    async with service.context(request) as context:
        context.require_known(task)
        return TaskAnswer.of(service.placements.tasks[task], service.placements.sizes[task])


@router.get("/tasks/{task}/demonstrations/{id:row}")
async def demonstration(task: str, id: str, service: _ServiceDep, request: Request) -> RowAnswer:
    """Return one demonstration of a task, as it was written."""
    async with service.context(request) as context:
        context.require(task)
        row = await context.demonstration(task, id)
        if (own := context.record.filter) is not None and not own.matches(task, row):
            # As if there were no such row.
            raise UnknownTaskError(f"task {task!r} has no demonstration {id!r}")
        return RowAnswer.of(task, row)


@router.get("/info")
async def info(service: _ServiceDep, request: Request) -> ShardsInfoAnswer:
    """Return the shards, the tasks and the limits."""
    placements = service.placements
    async with service.context(request) as context:
        families = {task.family for task in context.tasks.values()}
        return ShardsInfoAnswer(
            version=__version__,
            index_version=placements.version,
            model=placements.encoder.name,
            dimension=placements.encoder.dimension,
            metric=placements.encoder.metric,
            tokenizers=list(service.tokenizers),
            tasks=[
                ShardedTaskAnswer(name=name, family=task.family, demonstrations=placements.sizes[name])
                for name, task in context.tasks.items()
            ],
            families={n: family.instruction for n, family in placements.families.items() if n in families},
            shards=[
                ShardAnswer(name=shard.name, index_version=shard.version, services=len(shard.urls))
                for shard in placements.shards
            ],
            limits=service.settings.model_dump(include={"max_batch", "max_k", "max_candidates", "max_budget"}),
        )


@probes.get("/livez")
async def livez() -> dict[str, str]:
    """Answer if the process is alive."""
    return {"status": "alive"}


@probes.get("/readyz")
async def readyz(service: _ServiceDep) -> dict[str, str | list[str]]:
    """Answer if at least one shard is ready, and name those that are not."""
    if service.current.draining:
        raise NotReadyError("the service is shutting down; use another instance")
    missing = await service.missing()
    return {"status": "partial", "missing_shards": list(missing)} if missing else {"status": "ready"}


@probes.get("/metrics")
async def metrics(service: _ServiceDep) -> Response:
    """Return the metrics in Prometheus's text format."""
    content, media_type = await service.preparer.do("metrics", lambda stopped: service.metrics.render())
    return Response(content, headers={"Content-Type": media_type})
