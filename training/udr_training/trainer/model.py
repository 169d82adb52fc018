"""The starting model of a training: one or two towers, pooling, adapters."""

from typing import Any, cast

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Module, Router
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from transformers import PreTrainedModel

from udr.errors import ConfigError, MissingExtraError
from udr.models import SentenceEncoder
from udr_training.config import TrainConfig
from udr_training.trainer.sharing import check_plan


def starting_model(config: TrainConfig, start: str) -> SentenceTransformer:
    """Return the encoder to train, which starts from the model ``start``.

    With two towers, both start from the same weights; ``encode_query`` and ``encode_document`` use one each, and
    ``encode`` uses that of the demonstrations. A model that already has two towers keeps them.

    Raises:
        ModelError: there is no encoder of that name.
        ConfigError: the encoder does not support a setting.
        MissingExtraError: adapters are configured, and peft is not installed.
    """
    model = _load(config, start)
    if not config.temperature and any(isinstance(module, Normalize) for module in model.modules()):
        raise ConfigError(
            f"{start!r} gives unit vectors, whose dot products lie between -1 and 1, too close together to learn from; "
            "train.temperature must be above 0, such as 0.05"
        )
    if config.towers == 2 and not has_two_towers(model):
        router = Router.for_query_document(
            query_modules=_modules(model),
            document_modules=_modules(_load(config, start)),
            default_route="document",
        )
        prompts = {name: prompt for name, prompt in model.prompts.items() if prompt is not None}
        model = SentenceTransformer(modules=[router], device=str(model.device), prompts=prompts, local_files_only=True)
    if config.lora_rank:
        if has_two_towers(model):
            raise ConfigError(f"train.lora_rank trains one encoder, but {start!r} has two towers; leave it at 0")
        _add_adapters(model, config.lora_rank)
    if config.tensor_parallel > 1:
        check_plan(model, start, config.tensor_parallel)
    if config.gradient_checkpointing:
        _checkpoint_gradients(model, start)
    # Search uses the similarity of the training, whatever the starting model used.
    model.similarity_fn_name = "cosine" if config.temperature else "dot"
    return model


def has_two_towers(model: SentenceTransformer) -> bool:
    """Return whether queries and demonstrations take separate routes through a model."""
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
    # A later iteration starts from a model that already has the pooling.
    if config.pooling != "model" and start == config.model:
        _set_pooling(model, config.pooling)
    return model


def _set_pooling(model: SentenceTransformer, pooling: str) -> None:
    positions = [position for position, module in enumerate(_modules(model)) if isinstance(module, Pooling)]
    if len(positions) != 1:
        raise ConfigError(
            f"train.pooling is {pooling!r}, which needs an encoder with one pooling module; this one has "
            f"{len(positions)}; leave it at 'model'"
        )
    old: Any = model[positions[0]]
    new: Any = Pooling(old.embedding_dimension, pooling, include_prompt=old.include_prompt)
    model[positions[0]] = new


def _add_adapters(model: SentenceTransformer, rank: int) -> None:
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise MissingExtraError("peft, which train.lora_rank needs,", "training") from error
    # Alpha is twice the rank, as usual, so that the learning rate does not depend on the rank.
    adapters: Any = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="FEATURE_EXTRACTION")
    model.add_adapter(adapters)


def _checkpoint_gradients(model: SentenceTransformer, start: str) -> None:
    # Sentence Transformers' own way calls a function that Transformers warns of.
    transformers = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    if not transformers or not all(module.supports_gradient_checkpointing for module in transformers):
        raise ConfigError(f"{start!r} has no layers to checkpoint; train.gradient_checkpointing must be false")
    for module in transformers:
        module.activation_checkpointing_enable()


def merge_adapters(model: SentenceTransformer) -> None:
    """Merge adapters into the weights, and remove them."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [(name, module) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
    for name, module in adapted:
        layer: Any = module
        layer.merge()
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, layer.get_base_layer())
    inner: Any = model.transformers_model
    inner._hf_peft_config_loaded = False
    for parameter in model.parameters():
        parameter.requires_grad_(True)
