"""Embeddings, in OpenAI's shape: what speaks to their interface can ask for the vectors that udr searches with."""

import base64
from typing import Literal

import numpy as np
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from udr.errors import InvalidInputError, TooLongError
from udr.retrieval import Retrieval, Retriever
from udr.search import Vectors
from udr.types import Role
from udr_service.api.problems import EMBEDDINGS
from udr_service.api.retrieval import ServiceDep
from udr_service.errors import BatchTooLargeError
from udr_service.schemas import Body, EmbeddingAnswer, EmbeddingsAnswer, EmbeddingsError, UsageAnswer
from udr_service.serving import Embedding

_ERROR = {"model": EmbeddingsError, "description": "An error, in OpenAI's shape."}
router = APIRouter(responses={"default": _ERROR, 422: _ERROR})


class EmbeddingsBody(Body):
    """Asks for the vectors of texts."""

    input: str | list[str] = Field(description="One text, or several.")
    input_type: Role = Field(default="query", description="What the encoder reads the texts as; not OpenAI's.")
    model: str | None = Field(default=None, description="Taken as said; there is one encoder, and the answer names it.")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, description="No other than the encoder has.")
    user: str | None = None

    def texts(self) -> list[str]:
        """Return the texts, in order."""
        return [self.input] if isinstance(self.input, str) else self.input


@router.post(EMBEDDINGS)
async def embeddings(body: EmbeddingsBody, service: ServiceDep, request: Request) -> EmbeddingsAnswer:
    """Return the vectors of texts, as the encoder gives them; nothing is put before a text."""
    texts, limit = body.texts(), service.settings.max_batch
    if len(texts) > limit:
        raise BatchTooLargeError(f"the batch has {len(texts)} texts; the limit is {limit}")
    with service.asking(request) as asking:
        retriever = asking.served.retriever
        _check(body, texts, retriever)
        done = await asking.do([Embedding(text, body.input_type) for text in texts])
        vectors = [one.result for one in done if not isinstance(one.result, Retrieval)]
        count = asking.served.tokenizer.count
        tokens = sum(await run_in_threadpool(lambda: [count(text) for text in texts]))
    return EmbeddingsAnswer(
        data=[
            EmbeddingAnswer(index=number, embedding=_said(vector, body.encoding_format))
            for number, vector in enumerate(vectors)
        ],
        model=retriever.model,
        usage=UsageAnswer(prompt_tokens=tokens, total_tokens=tokens),
    )


def _check(body: EmbeddingsBody, texts: list[str], retriever: Retriever) -> None:
    width, longest = retriever.encoder.dimension, retriever.max_characters
    if not texts:
        raise InvalidInputError("the input must hold at least one text; found an empty list")
    if body.dimensions not in (None, width):
        raise InvalidInputError(f"dimensions must be {width}, what the encoder has; found {body.dimensions}")
    for place, text in enumerate(texts, start=1):
        if not text.strip():
            raise InvalidInputError(f"text {place} is empty")
        if len(text) > longest:
            raise TooLongError(f"text {place} has {len(text)} characters; the limit is {longest}")


def _said(vector: Vectors, encoding: str) -> list[float] | str:
    # Little-endian float32, as OpenAI's library decodes it.
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode() if encoding == "base64" else vector.tolist()
