"""What is answered: the shapes that the API promises, made from the core's objects."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from udr.retrieval import Stage


def _absent(value: object) -> bool:
    return value is None or value == []


def _is_none(value: object) -> bool:
    return value is None


class AnswerBody(BaseModel):
    """The base of every shape."""

    # Answers are made from the core's own objects, by their attributes.
    model_config = ConfigDict(from_attributes=True, frozen=True)


class TokensAnswer(AnswerBody):
    """How many tokens a text is, by one tokenizer."""

    tokenizer: str = Field(description="Its fingerprint.")
    count: int


class DemonstrationAnswer(AnswerBody):
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


class DecisionAnswer(AnswerBody):
    """What became of a candidate; see ``udr.retrieval.Decision``."""

    id: str
    task: str
    similarity: float
    stage: Stage = Field(description="The stage that left it out, or the last one.")
    kept: bool
    reason: str


class RetrieveAnswer(AnswerBody):
    """The demonstrations, the best first, and what they came from."""

    demonstrations: list[DemonstrationAnswer]
    index_version: str
    model: str
    decisions: list[DecisionAnswer] = Field(
        default=[], exclude_if=_absent, description="Of each candidate, where it was asked to explain."
    )


class Finding(AnswerBody):
    """What is wrong with one part of a body."""

    pointer: str = Field(description="A JSON pointer to the part; empty for the whole body.")
    detail: str


class Problem(AnswerBody):
    """Why there is no answer, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[Finding] = Field(default=[], exclude_if=_absent, description="Where a body does not fit its schema.")


class BatchAnswer(AnswerBody):
    """The answers, in the order of the requests."""

    results: list[RetrieveAnswer | Problem]


class MessageAnswer(AnswerBody):
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


class ShownAnswer(AnswerBody):
    """A demonstration that the prompt shows."""

    id: str
    task: str
    similarity: float
    rank: int
    tokens: int = Field(description="Those that it adds to the prompt.")


class SpecialTokenAnswer(AnswerBody):
    """A text in the data that the tokenizer reads as one of its special tokens."""

    token: str
    task: str
    id: str | None = Field(description="The demonstration that holds it; null where the query does.")


class TruncationAnswer(AnswerBody):
    """What was cut from the query."""

    field: str
    kept: int = Field(description="Characters that the prompt shows.")
    length: int = Field(description="Characters that there were.")


class PromptAnswer(AnswerBody):
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
