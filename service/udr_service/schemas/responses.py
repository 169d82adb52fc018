"""Response bodies: what the core's ``to_json`` methods return, problems, and OpenAI's embeddings."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from udr.retrieval import Scale, Stage


def _absent(value: object) -> bool:
    return value is None or value == []


def _zero(value: object) -> bool:
    return value == 0


def is_none(value: object) -> bool:
    """Return whether a value is None, and left out of the answer."""
    return value is None


class AnswerBody(BaseModel):
    """The base of all response bodies."""

    model_config = ConfigDict(frozen=True)


class TokensAnswer(AnswerBody):
    """The number of tokens of a text, by one tokenizer."""

    tokenizer: str = Field(description="The tokenizer's fingerprint.")
    count: int


class _CandidateAnswer(AnswerBody):
    id: str
    task: str
    similarity: float = Field(description="Higher is nearer.")
    ranking_score: float | None = Field(
        default=None,
        exclude_if=_absent,
        description="What ranks, if not the similarity: with a label head, the similarity and what the head adds.",
    )


class DemonstrationAnswer(_CandidateAnswer):
    """A retrieved demonstration; see ``udr.retrieval.RetrievedDemonstration``."""

    rank: int = Field(description="Its position in the order of choice, from 1.")
    input: dict[str, JsonValue]
    target: str
    text: str = Field(description="Input and target as the prompt shows them.")
    metadata: dict[str, JsonValue]
    tokens: TokensAnswer | None = Field(
        default=None, exclude_if=_absent, description="Tokens of the text, if the index has counted them."
    )
    choices: list[str] = Field(default=[], exclude_if=_absent, description="The options of a multiple-choice row.")


class DecisionAnswer(_CandidateAnswer):
    """What happened to a candidate; see ``udr.retrieval.Decision``."""

    stage: Stage = Field(description="The stage that dropped it, or the last one.")
    kept: bool
    reason: str


Decisions = Annotated[
    list[DecisionAnswer], Field(exclude_if=_absent, description="One for each candidate, if ``explain`` was set.")
]


MissingShards = Annotated[
    list[str],
    Field(exclude_if=_absent, description="Shards that did not answer; their rows are not among the demonstrations."),
]


class RetrieveAnswer(AnswerBody):
    """The demonstrations, best first, and the version that they come from."""

    demonstrations: list[DemonstrationAnswer]
    index_version: str
    model: str
    scale: Scale = Field(
        default="cosine", description="What the similarities are; reciprocal_ranks are sums of 1 / (60 + rank)."
    )
    copies: int = Field(default=0, description="Demonstrations left out as copies of the query, near ones included.")
    k: int | None = Field(default=None, exclude_if=_absent, description="How many were requested, if more are filled.")
    overlay_position: int = Field(
        default=0, exclude_if=_zero, description="The number of the last write that the answer knows of."
    )
    decisions: Decisions = []
    missing_shards: MissingShards = []


class Finding(AnswerBody):
    """What is wrong with one part of a body."""

    pointer: str = Field(description="A JSON pointer to the part; empty for the whole body.")
    detail: str


class Problem(AnswerBody):
    """An error, as RFC 9457 defines it."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[Finding] = Field(
        default=[], exclude_if=_absent, description="What is wrong with the body, if it does not match its schema."
    )


class BatchAnswer(AnswerBody):
    """The answers, in the order of the requests."""

    results: list[RetrieveAnswer | Problem]


class MessageAnswer(AnswerBody):
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


class ShownAnswer(_CandidateAnswer):
    """A demonstration in the prompt."""

    rank: int
    tokens: int = Field(description="Tokens that it adds to the prompt.")


class SpecialTokenAnswer(AnswerBody):
    """A text in the data that the tokenizer reads as one of its special tokens."""

    token: str
    task: str
    id: str | None = Field(description="The demonstration that contains it; null if the query does.")


class TruncationAnswer(AnswerBody):
    """How the query was truncated."""

    field: str
    kept: int = Field(description="Characters that the prompt shows.")
    length: int = Field(description="Characters before the truncation.")


class PartTokensAnswer(AnswerBody):
    """The tokens of a prompt by part; see ``udr.prompts.PartTokens``."""

    instruction: int
    listing: int
    demonstrations: int
    query: int
    joins: int
    reserve: int


class PromptAnswer(AnswerBody):
    """A prompt that fits its budget: ``prompt``, ``messages`` or ``records``, by the request's format."""

    prompt_id: str | None = Field(
        default=None, exclude_if=_absent, description="What POST /v1/outcomes names the prompt by, if usage is counted."
    )
    prompt: str | None = Field(default=None, exclude_if=_absent)
    messages: list[MessageAnswer] | None = Field(default=None, exclude_if=is_none)
    records: list[dict[str, JsonValue]] | None = Field(default=None, exclude_if=is_none)
    tokens: int
    tokenizer: str = Field(description="The model whose tokenizer counted.")
    demonstrations: list[ShownAnswer] = Field(description="In the order shown.")
    special_tokens: list[SpecialTokenAnswer] = Field(
        default=[], exclude_if=_absent, description="Texts in the data that the tokenizer reads as special tokens."
    )
    truncated: TruncationAnswer | None = Field(default=None, exclude_if=_absent)
    filled: int = Field(default=0, exclude_if=_zero, description="Demonstrations beyond k that fill the budget.")
    skipped: int = Field(
        default=0, exclude_if=_zero, description="Of the k demonstrations, how many do not fit the budget."
    )
    copies: int = Field(default=0, exclude_if=_zero, description="Demonstrations left out as copies of the query.")
    parts: PartTokensAnswer | None = Field(default=None, exclude_if=_absent, description="The tokens by part.")
    decisions: Decisions = []
    index_version: str
    overlay_position: int = Field(
        default=0, exclude_if=_zero, description="The number of the last write that the answer knows of."
    )
    model: str
    missing_shards: MissingShards = []


class EmbeddingAnswer(AnswerBody):
    """One vector, in OpenAI's shape."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str = Field(description="Numbers, or base64 of little-endian float32.")


class UsageAnswer(AnswerBody):
    """How many tokens were encoded."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(AnswerBody):
    """Vectors in the order of the texts, in OpenAI's shape."""

    object: Literal["list"] = "list"
    data: list[EmbeddingAnswer]
    model: str
    usage: UsageAnswer


class ModelAnswer(AnswerBody):
    """The encoder, in OpenAI's shape."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When this service opened it, in seconds since 1970.")
    owned_by: Literal["udr"] = "udr"


class ModelsAnswer(AnswerBody):
    """The models that embed, in OpenAI's shape."""

    object: Literal["list"] = "list"
    data: list[ModelAnswer]


class EmbeddingsProblem(AnswerBody):
    """The details of an error, in OpenAI's shape."""

    message: str
    type: str
    param: str | None = None
    code: str


class EmbeddingsError(AnswerBody):
    """An error, in OpenAI's shape."""

    error: EmbeddingsProblem
