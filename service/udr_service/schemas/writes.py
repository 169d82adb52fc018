"""Bodies and answers of writes to a pool."""

from typing import Annotated

from pydantic import BeforeValidator, Field, JsonValue

from udr.data import MAX_ID
from udr.retrieval import MAX_EXCLUDED
from udr.store.live import Outcome
from udr.types import Json
from udr_service.schemas.body import Body
from udr_service.schemas.filters import AnyFilter, FilterBody
from udr_service.schemas.info import RowAnswer
from udr_service.schemas.requests import MAX_FIELDS, refuse_large_batch
from udr_service.schemas.responses import AnswerBody


class RowBody(Body):
    """A row without its id, which the path has."""

    input: dict[str, JsonValue] = Field(max_length=MAX_FIELDS)
    target: str
    choices: list[str] | None = Field(default=None, description="The options of a multiple-choice row.")
    references: list[str] | None = Field(default=None, description="All gold texts, if there are several.")
    metadata: dict[str, JsonValue] | None = Field(default=None, description="Any other data; filters read it.")

    def to_row(self, id: str) -> dict[str, Json]:
        """Return the row as the core parses it."""
        keys: dict[str, Json] = {"id": id, **self.model_dump(exclude_none=True)}
        return keys


class IdentifiedRowBody(RowBody):
    """A row."""

    id: str = Field(min_length=1, max_length=MAX_ID)


class ChangesBody(Body):
    """Rows to put and rows to delete, all or none."""

    put: Annotated[list[IdentifiedRowBody], BeforeValidator(refuse_large_batch)] = Field(
        default=[], description="Rows to add, or to replace by their ids; at most max_batch, which GET /v1/info tells."
    )
    delete: list[str] = Field(
        default=[], max_length=MAX_EXCLUDED, fail_fast=True, description="Ids to delete; those not there are ignored."
    )
    filter: AnyFilter | None = Field(default=None, description="Delete the rows that pass, but for those put.")

    def rows(self) -> list[dict[str, Json]]:
        """Return the rows to put as the core parses them."""
        return [row.to_row(row.id) for row in self.put]

    def wanted(self) -> dict[str, Json] | str | None:
        """Return the filter as the core parses it."""
        return self.filter.to_json() if isinstance(self.filter, FilterBody) else self.filter


class ChangedAnswer(AnswerBody):
    """What a write changed."""

    created: list[str] = Field(description="Ids put that were new.")
    replaced: list[str] = Field(description="Ids put that were there before.")
    deleted: list[str]
    repeated: bool = Field(description="It was done before, with this Idempotency-Key; nothing was done now.")
    index_version: str
    overlay_position: int = Field(description="The number of the last write that every request now sees.")

    @classmethod
    def of(cls, outcome: Outcome, version: str) -> "ChangedAnswer":
        """Return the description of an outcome."""
        return cls(
            created=list(outcome.created),
            replaced=list(outcome.replaced),
            deleted=list(outcome.deleted),
            repeated=outcome.repeated,
            index_version=version,
            overlay_position=outcome.position,
        )


class PageAnswer(AnswerBody):
    """Rows of a task, in the order of their ids."""

    demonstrations: list[RowAnswer]
    next: str | None = Field(description="Where the next page starts, for after; null if there is none.")
    index_version: str
    overlay_position: int
