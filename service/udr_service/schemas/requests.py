"""Request bodies, and the core's requests and options that they become."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    JsonValue,
    Strict,
    Tag,
    ValidationError,
    ValidationInfo,
    WrapValidator,
)
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidatorFunctionWrapHandler

from udr.prompts import BuildingOptions, Format, Layout, Order
from udr.retrieval import MAX_EXCLUDED, Mode, RetrievalRequest
from udr.types import Role
from udr_service.errors import BatchTooLargeError
from udr_service.schemas.body import MAX_ERRORS, Body
from udr_service.schemas.filters import AnyFilter, FilterBody
from udr_service.settings import Settings

MAX_FIELDS = 256
"""How many fields an input may have."""

Texts = Annotated[list[str], Field(fail_fast=True)]

Choice = TypeVar("Choice", bound=StrEnum)
OneOf = Annotated[Choice, Strict(False)]
"""A member of an enumeration, given as text."""


def _kind_of_input(value: object) -> str | None:
    return "text" if isinstance(value, str) else "fields" if isinstance(value, dict) else None


Input = Annotated[
    Annotated[str, Tag("text")] | Annotated[dict[str, JsonValue], Field(max_length=MAX_FIELDS), Tag("fields")],
    Discriminator(
        _kind_of_input,
        custom_error_type="input_type",
        custom_error_message="must be text, or an object of fields",
    ),
]
"""A query's fields by name; or text, for a task with one field and for several tasks."""


class _Input(Body):
    input: Input


class Selection(Body):
    """How demonstrations are chosen."""

    k: int = Field(default=8, ge=1, description="How many; all if there are fewer.")
    exclude: list[str] = Field(default=[], max_length=MAX_EXCLUDED, fail_fast=True, description="Ids to leave out.")
    filter: AnyFilter | None = Field(
        default=None, description='Search only the rows that pass; as text: site = "imdb" and stars >= 3.'
    )
    keep_copies: bool = Field(default=False, description="Do not leave out the query itself and copies of it.")
    max_copy: float | None = Field(
        default=None, ge=0, le=1, description="Leave out near copies of the query: with a cosine above this."
    )
    min_similarity: float | None = Field(default=None, description="Leave out demonstrations less similar than this.")
    max_similarity: float | None = Field(default=None, description="Leave out demonstrations more similar than this.")
    mode: Mode = Field(
        default="dense", description="What ranks: the encoder, the words shared with the query, or both."
    )
    weight: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="How much the encoder's ranking counts in mode hybrid; if absent, what the index keeps, or 0.5.",
    )
    distinct: float | None = Field(
        default=None, ge=0, le=1, description="Of near copies with at least this cosine, keep the best."
    )
    diversity: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="The weight of being unlike those chosen, from 0 to 1 (maximal marginal relevance).",
    )
    coverage: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="The weight, from 0 to 1, of what each adds to those chosen: words of the query, likely labels.",
    )
    balance: bool = Field(default=False, description="Choose in rounds, one demonstration of each label.")
    candidates: int | None = Field(
        default=None, ge=1, description="The number of candidates to choose from and explain."
    )
    label_head: bool | None = Field(
        default=None, description="Rank with the task's label head; if absent, if there is one."
    )

    def options(self) -> dict[str, Any]:
        """Return the options that are given, as the core takes them."""
        given = {field.name for field in fields(RetrievalRequest)} & self.model_fields_set
        options: dict[str, Any] = {name: getattr(self, name) for name in given} | {"exclude": tuple(self.exclude)}
        if isinstance(self.filter, FilterBody):
            options["filter"] = self.filter.to_json()
        return options


# Fields are those of the last base first.
class _Query(Selection, _Input):
    explain: bool = Field(default=False, description="Say what happened to each candidate.")
    fill: bool = Field(default=False, description="Also the next nearest, up to candidates, for a prompt with room.")

    def to_request(self) -> RetrievalRequest:
        """Return the core's request; its own checks come later."""
        return RetrievalRequest(**self.options())


class RetrieveBody(_Query):
    """A request for demonstrations of exactly one of ``task``, ``family`` and ``scope``."""

    task: str | None = None
    family: str | None = None
    scope: Literal["all"] | None = None


class PromptBody(_Query):
    """A request for a prompt with as many of the k nearest demonstrations as fit the budget."""

    task: str
    budget: int = Field(ge=1, description="Tokens of prompt and answer together, by the tokenizer.")
    tokenizer: str | None = Field(
        default=None, description="Which of the service's tokenizers counts; /v1/info lists them, the default first."
    )
    reserve: int = Field(default=0, ge=0, description="Tokens of the budget to reserve for the answer.")
    format: OneOf[Format] = Field(default=Format.TEXT, description="One text, chat messages, or records.")
    order: OneOf[Order] = Field(default=Order.NEAREST_LAST, description="The order of the demonstrations.")
    seed: int = Field(default=0, description="The seed of the order shuffle; only for that.")
    layout: OneOf[Layout] = Field(
        default=Layout.TURNS, description="Where chat messages show the demonstrations; only for messages."
    )
    message_tokens: int | None = Field(
        default=None,
        ge=0,
        description="Tokens of a message besides its content, if there is no chat template; if absent, 4 for OpenAI's.",
    )
    list_options: bool = Field(
        default=False, description="List the labels, or the input's choices, after the instruction."
    )
    truncate: str | None = Field(default=None, description="The field of the query to truncate if it does not fit.")

    def building(self) -> BuildingOptions:
        """Return the options of the prompt builder."""
        return cast("BuildingOptions", {name: getattr(self, name) for name in BuildingOptions.__annotations__})


@dataclass(frozen=True, slots=True)
class InvalidItem:
    """An item of a batch that does not match its schema, and pydantic's errors."""

    body: object
    errors: Sequence[Mapping[str, Any]]


def first_errors(error: ValidationError) -> list[dict[str, Any]]:
    """Return pydantic's first errors, as many as are reported."""
    return [dict(item) for item in error.errors(include_url=False, include_context=False)[:MAX_ERRORS]]


def _or_invalid(body: Any, validate: ValidatorFunctionWrapHandler) -> Any:  # noqa: ANN401
    try:
        return validate(body)
    except ValidationError as error:
        return InvalidItem(body, first_errors(error))


def refuse_large_batch(value: object, info: ValidationInfo) -> object:
    """Return a batch; raise a ``BatchTooLargeError`` before its items are looked at if it is too large."""
    limit = info.context.max_batch if isinstance(info.context, Settings) else math.inf
    if isinstance(value, list) and len(value) > limit:
        raise BatchTooLargeError(f"the batch has {len(value)} items; the limit is {limit}")
    return value


class BatchBody(Body):
    """A request for several retrievals. Invalid items get a problem, the others an answer."""

    requests: Annotated[
        list[Annotated[RetrieveBody, WrapValidator(_or_invalid)]], BeforeValidator(refuse_large_batch)
    ] = Field(description="At most max_batch, which GET /v1/info tells.")

    def items(self) -> list[RetrieveBody | InvalidItem]:
        """Return the items, in order."""
        return list(self.requests)


def _refuse_tokens(value: object) -> object:
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(first, int | list):
        raise PydanticCustomError(
            "token_arrays",
            "must be text, found token ids, which belong to another model's vocabulary; in LangChain's "
            "OpenAIEmbeddings set check_embedding_ctx_length=False",
        )
    return value


class EmbeddingsBody(Body):
    """A request for the vectors of texts, in OpenAI's shape."""

    input: Annotated[str | Texts, BeforeValidator(_refuse_tokens), BeforeValidator(refuse_large_batch)] = Field(
        description="One text, or several: at most max_batch, which GET /v1/info tells."
    )
    input_type: Role = Field(default="query", description="How the encoder reads the texts; not part of OpenAI's API.")
    model: str | None = Field(
        default=None,
        description="Ignored: there is one encoder, which the response names. With an upstream, only that one's name.",
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, description="If given, it must be the encoder's dimension.")
    user: str | None = None

    def texts(self) -> list[str]:
        """Return the texts, in order."""
        return [self.input] if isinstance(self.input, str) else self.input
