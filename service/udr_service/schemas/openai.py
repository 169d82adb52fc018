"""What is answered in OpenAI's shape."""

from typing import Literal

from pydantic import Field

from udr_service.schemas.responses import AnswerBody


class EmbeddingAnswer(AnswerBody):
    """One vector, in OpenAI's shape."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str = Field(description="Numbers, or base64 of little-endian float32.")


class UsageAnswer(AnswerBody):
    """How many tokens were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(AnswerBody):
    """Vectors in the order of the texts, in OpenAI's shape."""

    object: Literal["list"] = "list"
    data: list[EmbeddingAnswer]
    model: str
    usage: UsageAnswer


class EmbeddingsProblem(AnswerBody):
    """Why there are no vectors, in OpenAI's words."""

    message: str
    type: str
    param: str | None = None
    code: str


class EmbeddingsError(AnswerBody):
    """Why there are no vectors, in OpenAI's shape."""

    error: EmbeddingsProblem
