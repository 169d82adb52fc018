"""Readers: from a service's JSON back to the frozen types of the core. Unknown keys are ignored.

Each raises KeyError, TypeError, ValueError or DataError if the JSON is not the answer of a udr service.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from udr import types
from udr.client.problems import Problem
from udr.data import Task, parse_task
from udr.models import Message
from udr.prompts import Prompt
from udr.retrieval import Page, Retrieval
from udr.store.live import Outcome
from udr.types import Json, Row


@cache
def reader(kind: Any) -> Callable[[Any], Any]:  # noqa: ANN401  # any annotation
    """Return the function that reads a value of a type from JSON.

    Dataclasses are built from their fields, of which those with a default may be missing, and tuples from lists. Other
    values stay as they are.
    """
    if is_dataclass(kind):
        hints = get_type_hints(kind, localns=vars(types))
        readers = {field.name: reader(hints[field.name]) for field in fields(kind)}
        required = {field.name for field in fields(kind) if field.default is field.default_factory is MISSING}
        build: Any = kind
        return lambda keys: build(
            **{name: read(keys[name]) for name, read in readers.items() if name in required or name in keys}
        )
    if kind is Message:
        return lambda keys: Message(role=keys["role"], content=keys["content"])
    if get_origin(kind) is tuple:
        read_item = reader(get_args(kind)[0])
        return lambda items: tuple(map(read_item, items))
    if len(get_args(kind)) == 2 and type(None) in get_args(kind):
        read_value = reader(get_args(kind)[0])
        return lambda value: None if value is None else read_value(value)
    return lambda value: value


def read_batch(body: Mapping[str, Any], count: int) -> list[Retrieval | Problem]:
    """Return the results of a batch of ``count`` requests, in their order."""
    results = body["results"]
    if len(results) != count:
        raise ValueError(f"{len(results)} results for {count} requests")
    return [
        reader(Retrieval)(keys)
        if "demonstrations" in keys
        else Problem(status=int(keys["status"]), detail=str(keys["detail"]), type=str(keys["type"]))
        for keys in results
    ]


def read_prompt(body: Mapping[str, Any]) -> Prompt:
    """Return the prompt whose ``to_json`` is ``body``."""
    required = {"index_version": body["index_version"], "model": body["model"]}
    prompt: Prompt = reader(Prompt)({**body, **required, "text": body.get("prompt")})
    return prompt


def read_tasks(body: Mapping[str, Any]) -> Mapping[str, Task]:
    """Return the tasks that ``/v1/tasks`` lists, by name."""
    # A ``task.toml`` omits what a task does not have; the service sends null, or an empty list or object.
    known = [field.name for field in fields(Task)]
    tasks = [parse_task({key: keys[key] for key in known if keys.get(key)}) for keys in body["tasks"]]
    return {task.name: task for task in tasks}


def read_page(body: Mapping[str, Any]) -> Page:
    """Return a page of rows."""
    return Page(tuple(reader(Row)(keys) for keys in body["demonstrations"]), body["next"])


def read_outcome(body: Mapping[str, Any]) -> Outcome:
    """Return what a write changed."""
    created, replaced, deleted = (tuple(body[name]) for name in ("created", "replaced", "deleted"))
    return Outcome(int(body["overlay_position"]), created, replaced, deleted, bool(body["repeated"]))


def read_told(body: Mapping[str, Any]) -> None:
    """Read that an outcome is kept."""
    if body["told"] != 1:
        raise ValueError(f"{body['told']} outcomes for 1")


def read_info(body: Mapping[str, Any]) -> Mapping[str, Json]:
    """Return the body of ``/v1/info``; every udr service names its index version."""
    return {**body, "index_version": body["index_version"]}


def read_max_batch(body: Mapping[str, Any]) -> int:
    """Return the most requests in a batch that the service accepts, from ``/v1/info``."""
    limit = int(body["limits"]["max_batch"])
    if limit < 1:
        raise ValueError(f"max_batch is {limit}")
    return limit
