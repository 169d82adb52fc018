"""The starting model of a training: one or two towers, pooling, adapters."""

from typing import Any, cast

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Module, Router
from sentence_transformers.sentence_transformer.modules import Pooling

from udr.errors import ConfigError, MissingExtraError
from udr.models import SentenceEncoder
from udr_training.config import TrainConfig


def starting_model(config: TrainConfig, start: str) -> SentenceTransformer:
    """Return the encoder to train.

    With two towers, both start from the same weights, and ``encode_query`` and ``encode_document`` go through
    their own; plain ``encode`` takes the demonstrations'. A model that has two towers already keeps them.

    Args:
        config: how it is trained.
        start: the model's name.

    Raises:
        ModelError: the name leads to no encoder.
        ConfigError: the encoder cannot be trained that way.
        MissingExtraError: adapters are asked for, and peft is not installed.
    """
    model = _load(config, start)
    if config.towers == 2 and not has_two_towers(model):
        model = _in_two(model, _load(config, start))
    if config.lora_rank:
        if has_two_towers(model):
            raise ConfigError(f"train.lora_rank trains one encoder, but {start!r} has two towers; leave it at 0")
        _add_adapters(model, config.lora_rank)
    # As it is trained, so it is to be searched, whatever it started from.
    model.similarity_fn_name = "cosine" if config.temperature else "dot"
    return model


def _in_two(queries: SentenceTransformer, demonstrations: SentenceTransformer) -> SentenceTransformer:
    router = Router.for_query_document(
        query_modules=_modules(queries),
        document_modules=_modules(demonstrations),
        default_route="document",
    )
    return SentenceTransformer(
        modules=[router],
        device=str(demonstrations.device),
        prompts={name: prompt for name, prompt in demonstrations.prompts.items() if prompt is not None},
    )


def has_two_towers(model: SentenceTransformer) -> bool:
    """Say whether queries and demonstrations go separate ways through a model."""
    return isinstance(model[0], Router)


def _modules(model: SentenceTransformer) -> list[Module]:
    return cast("list[Module]", list(model.children()))


def _load(config: TrainConfig, start: str) -> SentenceTransformer:
    model = SentenceEncoder.load(start).model
    if config.max_tokens:
        try:
            model.max_seq_length = min(config.max_tokens, model.max_seq_length or config.max_tokens)
        except AttributeError as error:
            raise ConfigError(f"{start!r} has no adjustable window; train.max_tokens must be 0") from error
    # An iteration that starts from the one before finds the pooling there.
    if config.pooling != "model" and start == config.model:
        _pool_by(model, config.pooling)
    return model


def _pool_by(model: SentenceTransformer, pooling: str) -> None:
    found = [number for number, module in enumerate(_modules(model)) if isinstance(module, Pooling)]
    if len(found) != 1:
        raise ConfigError(
            f"train.pooling is {pooling!r}, but the encoder has {len(found)} pooling modules of its own where it "
            "should have one; leave it at 'model'"
        )
    old: Any = model[found[0]]
    pooled: Any = Pooling(old.embedding_dimension, pooling, include_prompt=old.include_prompt)
    model[found[0]] = pooled


def _add_adapters(model: SentenceTransformer, rank: int) -> None:
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise MissingExtraError("peft, which train.lora_rank needs,", "training") from error
    # Twice the rank, the usual scale: a larger rank then needs no other learning rate.
    adapters: Any = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="FEATURE_EXTRACTION")
    model.add_adapter(adapters)


def merge_adapters(model: SentenceTransformer) -> None:
    """Add what adapters have learned to the weights they stand beside, and take them off."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [(name, module) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
    for name, module in adapted:
        layer: Any = module
        layer.merge()
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, layer.get_base_layer())
    inner: Any = model.transformers_model
    inner._hf_peft_config_loaded = False
    for parameter in model.parameters():
        parameter.requires_grad_(True)
