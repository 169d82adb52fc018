"""The endpoints that write to a task's pool, and list its rows."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response

from udr.data import Filter, row_text
from udr.errors import InvalidInputError
from udr.retrieval import MAX_PAGE, Page, Stopped, deletion, with_key
from udr.store.live import row_version
from udr.types import Json
from udr_service.api.answers import in_parts, json_answer
from udr_service.api.retrieval import COUNTS, PROBLEM, ServiceDep
from udr_service.api.strict_json import StrictRoute
from udr_service.schemas import ChangedAnswer, ChangesBody, PageAnswer, RowAnswer, RowBody

router = APIRouter(prefix="/v1/tasks/{task}", responses={"default": PROBLEM, 422: PROBLEM}, route_class=StrictRoute)

_Key = Annotated[
    str | None, Header(alias="Idempotency-Key", description="A repeated write with this key is done once.")
]
_IfMatch = Annotated[
    str | None, Header(alias="If-Match", description="Write only if the row has this version (its ETag); * for any.")
]
_IfNoneMatch = Annotated[
    str | None, Header(alias="If-None-Match", description="With *, the only value: put only rows that are not there.")
]


@router.get("/demonstrations", response_model=PageAnswer)
async def page(
    task: str,
    service: ServiceDep,
    request: Request,
    after: Annotated[str | None, Query(description="The next of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
    filter: Annotated[str | None, Query(description='As text, site = "imdb", or as JSON.')] = None,
    counts: Annotated[bool, COUNTS] = False,
) -> Response:
    """Return a page of a task's demonstrations, in the order of their ids."""
    async with service.context(request) as context:
        context.require_known(task)
        wanted, own = None if filter is None else Filter.of(filter), context.record.filter
        await context.read_fields(task, wanted)
        retriever = context.active.retriever

        def find(stopped: Stopped) -> tuple[Page, int]:
            found = retriever.demonstrations(task, after=after, limit=limit, filter=wanted, within=own)
            return found, sum(len(row_text(row)) for row in found.rows if not stopped())

        found, characters = await context.prepare(find)
        used = await context.counts(task, [row.id for row in found.rows]) if counts else {}
        position = context.saw(retriever.overlay_position)

        def make() -> "dict[str, Json | Iterator[Json]]":
            rows = (RowAnswer.of(task, row, used.get(row.id)).model_dump() for row in found.rows)
            version = context.active.version
            keys = {"next": found.next, "index_version": version, "overlay_position": position}
            return {"demonstrations": rows, **keys}

        return await json_answer(context, make, characters)


@router.put("/demonstrations/{id:row}", response_model=RowAnswer, responses={201: {"model": RowAnswer}})
async def put(
    task: str,
    id: str,
    body: RowBody,
    service: ServiceDep,
    request: Request,
    key: _Key = None,
    if_match: _IfMatch = None,
    if_none_match: _IfNoneMatch = None,
) -> Response:
    """Put a demonstration: 201 if it is new, 200 if it replaces the one with its id. Every later request sees it."""
    async with service.context(request) as context:
        context.require_known(task)
        change = replace(context.change(task, _version(if_match)), new=_is_new(if_none_match))
        outcome, rows = await context.put(change, [body.to_row(id)], key)
        row = rows[0]
        answer = in_parts(RowAnswer.of(task, row).model_dump_json().encode())
        answer.status_code, answer.headers["ETag"] = 201 if outcome.created else 200, f'"{row_version(row)}"'
        return answer


@router.delete("/demonstrations/{id:row}", status_code=204, response_class=Response)
async def delete(
    task: str, id: str, service: ServiceDep, request: Request, key: _Key = None, if_match: _IfMatch = None
) -> Response:
    """Delete a demonstration; no later request sees it."""
    async with service.context(request) as context:
        context.require_known(task)
        change = replace(context.change(task, _version(if_match)), delete=[id], strict=True)
        await context.write(with_key(change, key, [task, id]))
        return Response(status_code=204)


@router.post("/demonstrations:batch", response_model=ChangedAnswer)
async def batch(
    task: str,
    body: ChangesBody,
    service: ServiceDep,
    request: Request,
    key: _Key = None,
    if_match: _IfMatch = None,
    if_none_match: _IfNoneMatch = None,
) -> ChangedAnswer:
    """Put and delete several demonstrations, all or none.

    If-Match with a version is for one row; with *, all rows must be there.
    """
    async with service.context(request) as context:
        context.require_known(task)
        # Empty lists change nothing, as in Python; a body without any is a mistake.
        if not body.model_fields_set:
            raise InvalidInputError("there is nothing to write; give rows to put, ids to delete, or a filter")
        change = replace(context.change(task, _version(if_match)), new=_is_new(if_none_match))
        wanted = body.wanted()
        if body.delete and wanted is not None:
            raise InvalidInputError("give either the ids to delete, or a filter of the rows to delete")
        if body.delete or wanted is not None:
            change = deletion(change, body.delete or None, wanted)
        if isinstance(change.delete, Filter):
            # Else other writes would wait for it.
            await context.read_fields(task, change.delete)
        if body.put:
            outcome, _ = await context.put(change, body.rows(), key)
        else:
            asked: Json = [task, [*body.delete], wanted]
            outcome = await context.write(with_key(change, key, asked))
        return ChangedAnswer.of(outcome, context.active.version)


def _version(if_match: str | None) -> str | None:
    if if_match is None or if_match == "*":
        return if_match
    if len(if_match) < 2 or if_match[0] != '"' or if_match[-1] != '"' or "," in if_match:
        raise InvalidInputError(f"the header If-Match must be one ETag in double quotes, or *; found {if_match[:40]!r}")
    return if_match[1:-1]


def _is_new(if_none_match: str | None) -> bool:
    if if_none_match not in (None, "*"):
        raise InvalidInputError(
            f"the header If-None-Match must be * in a write, for rows that are not there; found {if_none_match[:40]!r}"
        )
    return if_none_match is not None
