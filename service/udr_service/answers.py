"""What is answered: the shapes that the API promises, made from the core's objects."""

from typing import Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from udr import __version__
from udr.retrieval import Stage
from udr.retriever import Retriever
from udr.tasks import Task
from udr.types import Row
from udr_service.settings import Settings


def _absent(value: object) -> bool:
    return value is None or value == []


def _is_none(value: object) -> bool:
    return value is None


class _Answer(BaseModel):
    # Answers are made from the core's own objects, by their attributes.
    model_config = ConfigDict(from_attributes=True, frozen=True)


class TokensAnswer(_Answer):
    """How many tokens a text is, by one tokenizer."""

    tokenizer: str = Field(description="Its fingerprint.")
    count: int


class DemonstrationAnswer(_Answer):
    """A demonstration that was found; see ``udr.retrieval.RetrievedDemonstration``."""

    id: str
    task: str
    similarity: float = Field(description="Higher is nearer.")
    rank: int = Field(description="Its place in the order of the choice, from 1.")
    input: dict[str, JsonValue]
    target: str
    text: str = Field(description="Input and target as the prompt shows them.")
    metadata: dict[str, JsonValue]
    tokens: TokensAnswer | None = Field(
        default=None, exclude_if=_absent, description="Of the text, where the index has counted them."
    )


class DecisionAnswer(_Answer):
    """What became of a candidate; see ``udr.retrieval.Decision``."""

    id: str
    task: str
    similarity: float
    stage: Stage = Field(description="The stage that left it out, or the last one.")
    kept: bool
    reason: str


class RetrieveAnswer(_Answer):
    """The demonstrations, the best first, and what they came from."""

    demonstrations: list[DemonstrationAnswer]
    index_version: str
    model: str
    decisions: list[DecisionAnswer] = Field(
        default=[], exclude_if=_absent, description="Of each candidate, where it was asked to explain."
    )


class Finding(_Answer):
    """What is wrong with one part of a body."""

    pointer: str = Field(description="A JSON pointer to the part; empty for the whole body.")
    detail: str


class Problem(_Answer):
    """Why there is no answer, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[Finding] = Field(default=[], exclude_if=_absent, description="Where a body does not fit its schema.")


class BatchAnswer(_Answer):
    """The answers, in the order of the requests."""

    results: list[RetrieveAnswer | Problem]


class MessageAnswer(_Answer):
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


class ShownAnswer(_Answer):
    """A demonstration that the prompt shows."""

    id: str
    task: str
    similarity: float
    rank: int
    tokens: int = Field(description="Those that it adds to the prompt.")


class SpecialTokenAnswer(_Answer):
    """A text in the data that the tokenizer reads as one of its special tokens."""

    token: str
    task: str
    id: str | None = Field(description="The demonstration that holds it; null where the query does.")


class TruncationAnswer(_Answer):
    """What was cut from the query."""

    field: str
    kept: int = Field(description="Characters that the prompt shows.")
    length: int = Field(description="Characters that there were.")


class PromptAnswer(_Answer):
    """A prompt that fits its budget: ``prompt``, ``messages`` or ``records``, as asked for."""

    prompt: str | None = Field(default=None, exclude_if=_absent)
    messages: list[MessageAnswer] | None = Field(default=None, exclude_if=_is_none)
    records: list[dict[str, JsonValue]] | None = Field(default=None, exclude_if=_is_none)
    tokens: int
    demonstrations: list[ShownAnswer] = Field(description="In the order shown.")
    special_tokens: list[SpecialTokenAnswer] = Field(
        default=[], exclude_if=_absent, description="Texts in the data that the tokenizer reads as special tokens."
    )
    truncated: TruncationAnswer | None = Field(default=None, exclude_if=_absent)
    decisions: list[DecisionAnswer] = Field(
        default=[], exclude_if=_absent, description="Of each candidate, where it was asked to explain."
    )
    index_version: str
    model: str


class TaskAnswer(_Answer):
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


class TasksAnswer(_Answer):
    """The tasks that are served, by name."""

    tasks: list[TaskAnswer]


class RowAnswer(_Answer):
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


class ReloadAnswer(_Answer):
    """What a reload came to."""

    index_version: str = Field(description="The version that answers now.")
    previous: str | None = Field(description="The version before; the same where no other is published.")


class EmbeddingAnswer(_Answer):
    """One vector, in OpenAI's shape."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str = Field(description="Numbers, or base64 of little-endian float32.")


class UsageAnswer(_Answer):
    """How many tokens were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(_Answer):
    """Vectors in the order of the texts, in OpenAI's shape."""

    object: Literal["list"] = "list"
    data: list[EmbeddingAnswer]
    model: str
    usage: UsageAnswer


class EmbeddingsProblem(_Answer):
    """Why there are no vectors, in OpenAI's words."""

    message: str
    type: str
    param: str | None = None
    code: str


class EmbeddingsError(_Answer):
    """Why there are no vectors, in OpenAI's shape."""

    error: EmbeddingsProblem


class LimitsAnswer(_Answer):
    """Every limit that a request can meet."""

    max_body_bytes: int
    max_batch: int
    max_k: int
    max_candidates: int
    max_characters: int = Field(description="Of a query's worded input.")
    max_budget: int
    queue_size: int
    timeout_seconds: float = Field(description="That an answer may take, at most.")


class ServedAnswer(_Answer):
    """A task and how many demonstrations it has."""

    name: str
    family: str
    demonstrations: int


class InfoAnswer(_Answer):
    """What is served, by what, within which limits."""

    version: str = Field(description="Of udr.")
    index_version: str
    model: str
    dimension: int
    metric: str
    tokenizer: str = Field(description="The model whose tokenizer counts the tokens of prompts.")
    tasks: list[ServedAnswer]
    families: dict[str, str] = Field(description="The instruction that words queries over a family.")
    demonstrations: int
    limits: LimitsAnswer

    @classmethod
    def of(cls, retriever: Retriever, settings: Settings) -> Self:
        """Return what is said of a service."""
        return cls(
            version=__version__,
            index_version=retriever.index_version,
            model=retriever.model,
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
