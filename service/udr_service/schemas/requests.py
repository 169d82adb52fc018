"""What a request's body may say, and what the core makes of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Strict,
    Tag,
    ValidationError,
    WrapValidator,
)
from pydantic_core.core_schema import ValidatorFunctionWrapHandler

from udr.prompts import BuildingOptions, Format, Layout, Order
from udr.retrieval import Mode, RetrievalRequest
from udr.types import Fields


class Body(BaseModel):
    """A request's body: no conversion between kinds, no unknown field, no number that JSON lacks."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


Choice = TypeVar("Choice", bound=StrEnum)
OneOf = Annotated[Choice, Strict(False)]
"""A name among several: JSON has no kind for these, so a text is taken for one."""


def _kind_of_input(value: object) -> str | None:
    return "text" if isinstance(value, str) else "fields" if isinstance(value, dict) else None


Input = Annotated[
    Annotated[str, Tag("text")] | Annotated[dict[str, JsonValue], Tag("fields")],
    Discriminator(
        _kind_of_input,
        custom_error_type="input_type",
        custom_error_message="must be text, or an object of fields",
    ),
]
"""A query's fields by name; plain text where the task has one field, or the scope is wider than a task."""


class _Query(Body):
    input: Input
    k: int = Field(default=8, ge=1)
    exclude: list[str] = Field(default=[], description="Ids that must not come back.")
    keep_copies: bool = Field(default=False, description="Let the query itself come back, and copies of it.")
    min_similarity: float | None = Field(default=None, description="Leave out what is less similar than this.")
    max_similarity: float | None = Field(default=None, description="Leave out what is more similar than this.")
    mode: Mode = Field(
        default="dense", description="What ranks: the encoder, the words shared with the input, or both."
    )
    distinct: float | None = Field(
        default=None, ge=0, le=1, description="Of demonstrations with at least this cosine, keep the best."
    )
    diversity: float | None = Field(
        default=None, ge=0, le=1, description="The weight of being unlike what is chosen (maximal marginal relevance)."
    )
    balance: bool = Field(default=False, description="Choose in rounds, one of each label.")
    candidates: int | None = Field(
        default=None, ge=1, description="From how many diversity chooses, and how many are explained."
    )
    explain: bool = Field(default=False, description="Tell what became of each candidate.")

    def _request(self, task: str | None, family: str | None = None, scope: str | None = None) -> RetrievalRequest:
        return RetrievalRequest(
            # The core refuses, by name, a field that holds an object.
            input=cast("Fields | str", self.input),
            task=task,
            family=family,
            scope=scope,
            k=self.k,
            exclude=tuple(self.exclude),
            keep_copies=self.keep_copies,
            min_similarity=self.min_similarity,
            max_similarity=self.max_similarity,
            mode=self.mode,
            distinct=self.distinct,
            diversity=self.diversity,
            balance=self.balance,
            candidates=self.candidates,
            explain=self.explain,
        )


class RetrieveBody(_Query):
    """Asks for demonstrations; exactly one of ``task``, ``family`` and ``scope`` says where from."""

    task: str | None = None
    family: str | None = None
    scope: Literal["all"] | None = None

    def to_request(self) -> RetrievalRequest:
        """Return what the core makes of it."""
        return self._request(self.task, self.family, self.scope)


class PromptBody(_Query):
    """Asks for a prompt with those of the k nearest demonstrations that fit."""

    task: str
    budget: int = Field(ge=1, description="Tokens of prompt and answer together, as the encoder counts tokens.")
    reserve: int = Field(default=0, ge=0, description="Tokens of the budget that are kept for the answer.")
    format: OneOf[Format] = Field(default=Format.TEXT, description="One text, chat messages, or records.")
    order: OneOf[Order] = Field(default=Order.NEAREST_LAST, description="In which order demonstrations are shown.")
    seed: int = Field(default=0, description="Of the order shuffle.")
    layout: OneOf[Layout] = Field(default=Layout.TURNS, description="Where chat messages show the demonstrations.")
    message_tokens: int = Field(
        default=0, ge=0, description="What a message costs beside its content, where no chat template tells."
    )
    list_options: bool = Field(default=False, description="Name the labels after the instruction.")
    truncate: str | None = Field(default=None, description="The field of the query that may be cut to fit.")

    def building(self) -> BuildingOptions:
        """Return how the prompt is to be built."""
        return BuildingOptions(
            order=self.order,
            seed=self.seed,
            layout=self.layout,
            message_tokens=self.message_tokens,
            list_options=self.list_options,
            truncate=self.truncate,
        )

    def to_request(self) -> RetrievalRequest:
        """Return what the core makes of it."""
        return self._request(self.task)


@dataclass(frozen=True, slots=True)
class Refused:
    """An item of a batch that does not fit its schema.

    Attributes:
        body: the item.
        errors: what is wrong with it, as pydantic lists it.
    """

    body: object
    errors: Sequence[Mapping[str, Any]]


def _or_refused(body: Any, validate: ValidatorFunctionWrapHandler) -> Any:  # noqa: ANN401
    try:
        return validate(body)
    except ValidationError as error:
        return Refused(body, [dict(one) for one in error.errors(include_url=False, include_context=False)])


class BatchBody(Body):
    """Asks for several retrievals at once. A request that does not fit gets its problem, the others their answer."""

    requests: list[Annotated[RetrieveBody, WrapValidator(_or_refused)]]

    def items(self) -> list[RetrieveBody | Refused]:
        """Return the requests, in order."""
        return list(self.requests)
