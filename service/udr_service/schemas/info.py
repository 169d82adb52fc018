"""What is said of what is served: its tasks, their rows, its versions, its limits."""

from typing import Self, cast

from pydantic import Field, JsonValue

from udr import __version__
from udr.data import Task
from udr.types import Row
from udr_service.schemas.responses import AnswerBody
from udr_service.serving import ActiveVersion
from udr_service.settings import Settings


class TaskAnswer(AnswerBody):
    """A task that is served: the keys of its ``task.toml``, its fields, and how many demonstrations it has."""

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
        """Return what is said of a task that has ``size`` demonstrations."""
        return cls(
            name=task.name,
            family=task.family,
            kind=task.kind,
            instruction=task.instruction,
            input=task.input.source,
            output=task.output.source,
            fields=list(task.fields),
            labels=list(task.labels),
            metric=task.metric,
            normalise=task.normalise,
            verbalizer=dict(task.verbalizer),
            demonstrations=size,
        )


class TasksAnswer(AnswerBody):
    """The tasks that are served, by name."""

    tasks: list[TaskAnswer]


class RowAnswer(AnswerBody):
    """One row of a task, as it was written; see ``udr.types.Row``."""

    id: str
    task: str
    input: dict[str, JsonValue]
    target: str
    choices: list[str]
    references: list[str]
    metadata: dict[str, JsonValue]

    @classmethod
    def of(cls, task: str, row: Row) -> Self:
        """Return what is said of a row of a task."""
        return cls(
            id=row.id,
            task=task,
            input=cast("dict[str, JsonValue]", row.input),
            target=row.target,
            choices=list(row.choices),
            references=list(row.references),
            metadata=cast("dict[str, JsonValue]", row.metadata),
        )


class ReloadAnswer(AnswerBody):
    """What a reload came to."""

    index_version: str = Field(description="The version that answers now.")
    previous: str | None = Field(description="The version before; the same where no other is published.")


class LimitsAnswer(AnswerBody):
    """Every limit that a request can meet."""

    max_body_bytes: int
    max_batch: int
    max_k: int
    max_candidates: int
    max_characters: int = Field(description="Of a query's worded input.")
    max_budget: int
    queue_size: int
    timeout_seconds: float = Field(description="That an answer may take, at most.")


class ServedAnswer(AnswerBody):
    """A task and how many demonstrations it has."""

    name: str
    family: str
    demonstrations: int


class InfoAnswer(AnswerBody):
    """What is served, by what, within which limits."""

    version: str = Field(description="Of udr.")
    index_version: str
    model: str
    engine: str | None = Field(description="What encodes queries; null where the application brought an encoder.")
    dimension: int
    metric: str
    tokenizer: str = Field(description="The model whose tokenizer counts the tokens of prompts.")
    tasks: list[ServedAnswer]
    families: dict[str, str] = Field(description="The instruction that words queries over a family.")
    demonstrations: int
    limits: LimitsAnswer

    @classmethod
    def of(cls, served: ActiveVersion, settings: Settings) -> Self:
        """Return what is said of a service."""
        retriever = served.retriever
        return cls(
            version=__version__,
            index_version=retriever.index_version,
            model=retriever.model,
            engine=served.engine,
            dimension=retriever.encoder.dimension,
            metric=retriever.encoder.metric,
            tokenizer=settings.tokenizer or retriever.model,
            tasks=[
                ServedAnswer(name=name, family=task.family, demonstrations=retriever.sizes[name])
                for name, task in retriever.tasks.items()
            ],
            families={name: family.instruction for name, family in retriever.families.items()},
            demonstrations=sum(retriever.sizes.values()),
            limits=LimitsAnswer(
                max_body_bytes=settings.max_body_bytes,
                max_batch=settings.max_batch,
                max_k=settings.max_k,
                max_candidates=settings.max_candidates,
                max_characters=retriever.max_characters,
                max_budget=settings.max_budget,
                queue_size=settings.queue_size,
                timeout_seconds=settings.timeout_seconds,
            ),
        )
