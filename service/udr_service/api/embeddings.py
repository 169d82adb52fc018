"""Embeddings, in OpenAI's shape: clients of their API can use the encoder that udr searches with."""

import base64
from typing import cast

import numpy as np
from fastapi import APIRouter, Request, Response

from udr.errors import InvalidInputError, TooLongError, UnknownTaskError, brief
from udr.retrieval import Retriever
from udr.search import Vectors
from udr.types import Json
from udr_service.api.answers import json_answer
from udr_service.api.problems import EMBEDDINGS, MODELS
from udr_service.api.retrieval import ServiceDep
from udr_service.api.strict_json import StrictRoute
from udr_service.schemas import (
    EmbeddingAnswer,
    EmbeddingsAnswer,
    EmbeddingsBody,
    EmbeddingsError,
    ModelAnswer,
    ModelsAnswer,
    UsageAnswer,
)
from udr_service.serving import ActiveVersion, Embedding

_NUMBER_CHARACTERS = 22
_ERROR = {"model": EmbeddingsError, "description": "An error, in OpenAI's shape."}
router = APIRouter(responses={"default": _ERROR, 422: _ERROR}, route_class=StrictRoute)


@router.post(EMBEDDINGS, response_model=EmbeddingsAnswer)
async def embeddings(body: EmbeddingsBody, service: ServiceDep, request: Request) -> Response:
    """Return the encoder's vectors of texts, without any instruction before them."""
    texts = body.texts()
    async with service.context(request) as context:
        retriever = context.active.retriever
        if service.settings.upstream is not None and body.model not in (None, retriever.model):
            # A client of the gateway means a model of the upstream, whose vectors are others.
            raise UnknownTaskError(
                f"unknown model {brief(str(body.model))}: embeddings are not forwarded to the upstream; ask it at its "
                f"own address, or name the encoder of this index, {retriever.model!r}"
            )
        _check(texts, body.dimensions, retriever)
        results = await context.do([Embedding(text, body.input_type) for text in texts])
        vectors = [cast("Vectors", result.result) for result in results]
        return await json_answer(
            context,
            lambda: _answer(context.active, texts, vectors, body.encoding_format),
            sum(_NUMBER_CHARACTERS * len(vector) for vector in vectors),
            inline=False,
        )


def _answer(active: ActiveVersion, texts: list[str], vectors: list[Vectors], encoding: str) -> Json:
    tokens = sum(map(active.tokenizer.count, texts))
    answer = EmbeddingsAnswer(
        data=[
            EmbeddingAnswer(index=index, embedding=_base64(vector) if encoding == "base64" else vector.tolist())
            for index, vector in enumerate(vectors)
        ],
        model=active.retriever.model,
        usage=UsageAnswer(prompt_tokens=tokens, total_tokens=tokens),
    )
    return cast("Json", answer.model_dump(mode="json"))


@router.get(MODELS)
async def models(service: ServiceDep, request: Request) -> ModelsAnswer:
    """List the encoder, as clients of OpenAI's API look for it."""
    async with service.context(request) as context:
        return ModelsAnswer(data=[_model(context.active)])


@router.get(MODELS + "/{model:path}")
async def model(model: str, service: ServiceDep, request: Request) -> ModelAnswer:
    """Describe the encoder."""
    async with service.context(request) as context:
        if model != context.active.retriever.model:
            raise UnknownTaskError(f"unknown model {model!r}; GET {MODELS} lists the one")
        return _model(context.active)


def _model(active: ActiveVersion) -> ModelAnswer:
    return ModelAnswer(id=active.retriever.model, created=int(active.opened))


def _check(texts: list[str], dimensions: int | None, retriever: Retriever) -> None:
    dimension, longest = retriever.encoder.dimension, retriever.max_characters
    if not texts:
        raise InvalidInputError("the input must contain at least one text; found an empty list")
    if dimensions not in (None, dimension):
        raise InvalidInputError(f"dimensions must be {dimension}, as the encoder has; found {dimensions}")
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            raise InvalidInputError(f"text {number} is empty")
        if len(text) > longest:
            raise TooLongError(f"text {number} has {len(text)} characters; the limit is {longest}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            half = f"character {error.start + 1}, {text[error.start]!r}, is half a surrogate pair"
            raise InvalidInputError(f"text {number} is not valid text: {half}") from error


def _base64(vector: Vectors) -> str:
    # Little-endian float32, as OpenAI's library decodes it.
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
