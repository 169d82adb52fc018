"""What a udr service answers, read back into the types that it was made from."""

from collections.abc import Mapping
from typing import Any

from udr.client.problems import Problem
from udr.data import Task, parse_task
from udr.models import Message
from udr.prompts import Prompt, PromptDemonstration, SpecialToken, Truncation
from udr.retrieval import Decision, Retrieval, RetrievedDemonstration
from udr.types import Json, Row, TokenCount

_TASK_KEYS = ("name", "family", "kind", "instruction", "input", "output", "labels", "metric", "normalise", "verbalizer")


def read_retrieval(body: Mapping[str, Any]) -> Retrieval:
    """Return the retrieval whose ``to_json`` is ``body``; keys that are not known are passed over.

    Raises:
        KeyError: a key is missing.
        TypeError: a part is of the wrong kind.
    """
    return Retrieval(
        demonstrations=tuple(_demonstration(keys) for keys in body["demonstrations"]),
        index_version=body["index_version"],
        model=body["model"],
        decisions=tuple(_decision(keys) for keys in body.get("decisions", ())),
    )


def _decision(keys: Mapping[str, Any]) -> Decision:
    return Decision(
        id=keys["id"],
        task=keys["task"],
        similarity=keys["similarity"],
        stage=keys["stage"],
        kept=keys["kept"],
        reason=keys["reason"],
    )


def _demonstration(keys: Mapping[str, Any]) -> RetrievedDemonstration:
    tokens = keys.get("tokens")
    return RetrievedDemonstration(
        id=keys["id"],
        task=keys["task"],
        similarity=keys["similarity"],
        rank=keys["rank"],
        input=keys["input"],
        target=keys["target"],
        text=keys["text"],
        metadata=keys["metadata"],
        tokens=None if tokens is None else TokenCount(tokenizer=tokens["tokenizer"], count=tokens["count"]),
    )


def read_batch(body: Mapping[str, Any], count: int) -> list[Retrieval | Problem]:
    """Return what ``count`` requests of a batch got, in their order.

    Raises:
        KeyError: a key is missing.
        TypeError: a part is of the wrong kind.
        ValueError: there are more results or fewer, so that none can be said to belong to its request.
    """
    results = body["results"]
    if len(results) != count:
        raise ValueError(f"{len(results)} results for {count} requests")
    return [read_retrieval(keys) if "demonstrations" in keys else _problem(keys) for keys in results]


def _problem(keys: Mapping[str, Any]) -> Problem:
    return Problem(status=int(keys["status"]), detail=str(keys["detail"]), type=str(keys["type"]))


def read_prompt(body: Mapping[str, Any]) -> Prompt:
    """Return the prompt whose ``to_json`` is ``body``; keys that are not known are passed over.

    Raises:
        KeyError: a key is missing.
        TypeError: a part is of the wrong kind.
    """
    messages, records, cut = body.get("messages"), body.get("records"), body.get("truncated")
    return Prompt(
        text=body.get("prompt"),
        messages=None if messages is None else tuple(Message(role=m["role"], content=m["content"]) for m in messages),
        records=None if records is None else tuple(records),
        tokens=body["tokens"],
        demonstrations=tuple(
            PromptDemonstration(
                id=keys["id"],
                task=keys["task"],
                similarity=keys["similarity"],
                rank=keys["rank"],
                tokens=keys["tokens"],
            )
            for keys in body["demonstrations"]
        ),
        special_tokens=tuple(
            SpecialToken(token=keys["token"], task=keys["task"], id=keys["id"])
            for keys in body.get("special_tokens", ())
        ),
        truncated=None if cut is None else Truncation(field=cut["field"], kept=cut["kept"], length=cut["length"]),
        decisions=tuple(_decision(keys) for keys in body.get("decisions", ())),
        index_version=body["index_version"],
        model=body["model"],
    )


def read_tasks(body: Mapping[str, Any]) -> Mapping[str, Task]:
    """Return the tasks that ``/v1/tasks`` lists, by name.

    Raises:
        KeyError: a key is missing.
        TypeError: a part is of the wrong kind.
        DataError: a task is none.
    """
    # A ``task.toml`` leaves out what a task does not have; the service says null, or an empty list or object.
    tasks = [parse_task({key: keys[key] for key in _TASK_KEYS if keys.get(key)}) for keys in body["tasks"]]
    return {task.name: task for task in tasks}


def read_row(body: Mapping[str, Any]) -> Row:
    """Return the row that ``/v1/tasks/{task}/demonstrations/{id}`` shows.

    Raises:
        KeyError: a key is missing.
        TypeError: a part is of the wrong kind.
    """
    return Row(
        id=body["id"],
        input=body["input"],
        target=body["target"],
        choices=tuple(body["choices"]),
        references=tuple(body["references"]),
        metadata=body["metadata"],
    )


def read_info(body: Mapping[str, Any]) -> Mapping[str, Json]:
    """Return what ``/v1/info`` says.

    Raises:
        KeyError: it does not name an index version, as every udr service does.
    """
    return {**body, "index_version": body["index_version"]}


def read_max_batch(body: Mapping[str, Any]) -> int:
    """Return the most requests that the service takes in a batch, as ``/v1/info`` says.

    Raises:
        KeyError: a key is missing.
        TypeError: a part is of the wrong kind.
        ValueError: it is no number, or none that a batch could have.
    """
    limit = int(body["limits"]["max_batch"])
    if limit < 1:
        raise ValueError(f"max_batch is {limit}")
    return limit
