"""The model that a training starts from: one tower for queries and demonstrations, or one for each."""

from typing import cast

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Module, Router

from udr.encoder import SentenceEncoder
from udr_training.config import TrainConfig


def starting_model(config: TrainConfig) -> SentenceTransformer:
    """Return the encoder to train.

    With two towers, both start from the same weights, and ``encode_query`` and ``encode_document`` go through
    their own; plain ``encode`` takes the demonstrations'. A model that has two towers already keeps them.

    Raises:
        ModelError: the name leads to no encoder.
    """
    if config.towers == 1:
        return _load(config)
    queries, demonstrations = _load(config), _load(config)
    if has_two_towers(demonstrations):
        return demonstrations
    router = Router.for_query_document(
        query_modules=_modules(queries),
        document_modules=_modules(demonstrations),
        default_route="document",
    )
    return SentenceTransformer(
        modules=[router],
        device=str(demonstrations.device),
        prompts={name: prompt for name, prompt in demonstrations.prompts.items() if prompt is not None},
        similarity_fn_name=demonstrations.similarity_fn_name,
    )


def has_two_towers(model: SentenceTransformer) -> bool:
    """Say whether queries and demonstrations go separate ways through a model."""
    return isinstance(model[0], Router)


def _modules(model: SentenceTransformer) -> list[Module]:
    return cast("list[Module]", list(model.children()))


def _load(config: TrainConfig) -> SentenceTransformer:
    model = SentenceEncoder.load(config.model).model
    if config.max_tokens:
        model.max_seq_length = min(config.max_tokens, model.max_seq_length or config.max_tokens)
    return model
