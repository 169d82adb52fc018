"""Descriptions of the service: its tasks and rows, the active version, the limits."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Self

from pydantic import Field, JsonValue

from udr import __version__
from udr.data import ENCODER_WORDING, Task
from udr.retrieval import MAX_EXCLUDED
from udr.store import EncoderStamp, definition
from udr.store.usage import Count, UsageLevel
from udr.types import Row
from udr_service.schemas.responses import AnswerBody, is_none
from udr_service.serving import ActiveVersion
from udr_service.settings import Settings


class TaskAnswer(AnswerBody):
    """A task: the keys of its ``task.toml``, its fields, and the number of its demonstrations."""

    name: str
    family: str
    kind: str
    instruction: str
    input: str
    output: str
    fields: list[str]
    labels: list[str]
    metric: str
    normalise: str | None
    verbalizer: dict[str, str]
    demonstrations: int

    @classmethod
    def of(cls, task: Task, size: int) -> Self:
        """Return the description of a task that has ``size`` demonstrations."""
        keys = {"labels": [], "normalise": None, "verbalizer": {}, **task.to_json()}
        return cls.model_validate({**keys, "fields": task.fields, "demonstrations": size})


class TasksAnswer(AnswerBody):
    """The tasks, by name."""

    tasks: list[TaskAnswer]


class RowAnswer(AnswerBody):
    """One row of a task, as written; see ``udr.types.Row``."""

    id: str
    task: str
    input: dict[str, JsonValue]
    target: str
    choices: list[str]
    references: list[str]
    metadata: dict[str, JsonValue]
    retrieved: int | None = Field(
        default=None, exclude_if=is_none, description="How often it was retrieved, if the request asks for counts."
    )
    shown: int | None = Field(
        default=None, exclude_if=is_none, description="How often a prompt showed it, if the request asks for counts."
    )

    @classmethod
    def of(cls, task: str, row: Row, count: Count | None = None) -> Self:
        """Return the description of a row, with its counts if they are given."""
        used = {} if count is None else asdict(count)
        keys = {"task": task, "choices": [], "references": [], "metadata": {}, **row.to_json(), **used}
        return cls.model_validate(keys)


class ReloadAnswer(AnswerBody):
    """The result of a reload."""

    index_version: str = Field(description="The active version.")
    previous: str | None = Field(description="The version that was active before; the same if no other is published.")


class LimitsAnswer(AnswerBody):
    """The limits of requests."""

    max_head_bytes: int
    max_body_bytes: int
    max_values: int = Field(description="The most values and keys in the JSON of a body.")
    receive_seconds: float = Field(description="How long a request may take to arrive.")
    max_batch: int
    max_k: int
    max_candidates: int
    max_characters: int = Field(description="The most characters of a query.")
    max_excluded: int
    max_budget: int
    queue_size: int = Field(description="What may wait, in plain queries; a costlier one counts as several.")
    timeout_seconds: float = Field(description="The time limit of a request.")
    usage_prompts: int = Field(
        description="How many prompts are kept without an outcome, and how many with one; the oldest are dropped."
    )
    usage_days: float = Field(description="How many days a prompt is kept, and can be told the outcome of.")


class ServedAnswer(AnswerBody):
    """A task and the number of its demonstrations."""

    name: str
    family: str
    demonstrations: int
    bm25: bool = Field(description="Whether it has BM25, which the modes bm25 and hybrid, and coverage, need.")
    encoder_passes: int = Field(
        description="How many texts the encoder reads for a query: 1; 3 if the label head reads two fields apart."
    )


class InfoAnswer(AnswerBody):
    """The served tasks, the active index version and the limits."""

    version: str = Field(description="The version of udr.")
    workers: int = Field(description="How many processes answer.")
    index_version: str
    overlay_position: int = Field(description="The number of the last write that requests see; 0 before the first.")
    overlay_rows: int = Field(description="How many rows were put or deleted since the index version was built.")
    overlay_bytes: int = Field(description="How many bytes the log has that keeps what was written.")
    search_digest: str = Field(
        description="A hash of the search settings and the weights of hybrid searches, which may change in a version."
    )
    definition: str = Field(
        description="A hash of all that a version is but its rows: the encoder, how it reads rows, and the tasks."
    )
    model: str
    engine: str | None = Field(description="What encodes queries; null if the application brought its own encoder.")
    dimension: int
    metric: str
    tokenizer: str = Field(
        description="The model whose tokenizer counts prompt tokens, unless a request names another."
    )
    tokenizers: list[str] = Field(description="The models whose tokenizers a request can name.")
    tasks: list[ServedAnswer]
    families: dict[str, str] = Field(description="The instruction for queries over each family.")
    demonstrations: int
    upstream: bool = Field(description="Whether POST /v1/chat/completions forwards chats to a language model.")
    usage: UsageLevel = Field(description="What is kept of its use: off, counts, or the inputs of prompts as well.")
    limits: LimitsAnswer

    @classmethod
    def of(cls, active: ActiveVersion, tasks: Mapping[str, Task], settings: Settings, workers: int) -> Self:
        """Return the description of a service of so many processes, as far as it serves these tasks."""
        families = {task.family for task in tasks.values()}
        retriever = active.retriever
        sizes = retriever.sizes
        limits = {**settings.model_dump(), "max_characters": retriever.max_characters, "max_excluded": MAX_EXCLUDED}
        return cls(
            version=__version__,
            workers=workers,
            index_version=retriever.index_version,
            overlay_position=retriever.overlay_position,
            overlay_rows=retriever.overlay_rows,
            overlay_bytes=retriever.overlay_bytes,
            search_digest=retriever.search_digest,
            definition=definition(
                EncoderStamp.of(retriever.encoder), ENCODER_WORDING, retriever.families, retriever.tasks
            ),
            model=retriever.model,
            engine=active.engine,
            dimension=retriever.encoder.dimension,
            metric=retriever.encoder.metric,
            tokenizer=active.name_of(active.tokenizer),
            tokenizers=list(active.tokenizers),
            tasks=[
                ServedAnswer(
                    name=name,
                    family=task.family,
                    demonstrations=sizes[name],
                    bm25=name in retriever.lexical,
                    encoder_passes=retriever.encoder_passes[name],
                )
                for name, task in tasks.items()
            ],
            families={n: family.instruction for n, family in retriever.families.items() if n in families},
            demonstrations=sum(sizes[name] for name in tasks),
            upstream=settings.upstream is not None,
            usage=settings.usage,
            limits=LimitsAnswer.model_validate(limits),
        )


class ShardedTaskAnswer(AnswerBody):
    """A task and the number of its demonstrations in all shards."""

    name: str
    family: str
    demonstrations: int


class ShardAnswer(AnswerBody):
    """A shard, the version that the manifest of placements names, and how many services hold it."""

    name: str
    index_version: str
    services: int


class ShardsInfoAnswer(AnswerBody):
    """The shards that a service asks, their tasks with the numbers of demonstrations, and the limits."""

    version: str = Field(description="The version of udr.")
    index_version: str = Field(description="The name of the shards' versions together.")
    model: str
    dimension: int
    metric: str
    tokenizers: list[str]
    tasks: list[ShardedTaskAnswer]
    families: dict[str, str] = Field(description="The instruction for queries over each family.")
    shards: list[ShardAnswer]
    limits: dict[str, int]
