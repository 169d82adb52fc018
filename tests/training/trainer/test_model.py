"""The starting model: towers, pooling and adapters."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding

from tests.training.trainer.small_trainings import TEXTS, Tasks, trained, without_validation
from udr.data import open_collection
from udr.errors import ConfigError
from udr.models import SentenceEncoder
from udr_training.config import FeedbackConfig, RunConfig, TrainConfig
from udr_training.trainer import has_two_towers, merge_adapters, starting_model, write_card


def test_two_towers_start_equal_and_train_apart(config: TrainConfig, tmp_path: Path) -> None:
    config = replace(config, towers=2)
    model = starting_model(config, config.model)
    assert has_two_towers(model) and not has_two_towers(starting_model(replace(config, towers=1), config.model))
    np.testing.assert_allclose(model.encode_query(["a b"]), model.encode_document(["a b"]), atol=1e-6)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "sub_modules.query" in name:
                parameter.add_(0.1)
    assert np.abs(model.encode_query(["a b"]) - model.encode_document(["a b"])).max() > 1e-3

    model.save_pretrained(str(tmp_path / "model"))
    opened = SentenceEncoder.load(str(tmp_path / "model"), device="cpu")
    expected = SentenceEncoder("x", tmp_path / "model", model)
    np.testing.assert_allclose(opened.encode_queries(["a b"]), expected.encode_queries(["a b"]), atol=1e-6)
    np.testing.assert_allclose(opened.encode_demonstrations(["c"]), expected.encode_demonstrations(["c"]), atol=1e-6)
    # A model that already has two towers keeps them.
    again = starting_model(config, str(tmp_path / "model"))
    np.testing.assert_allclose(again.encode_query(["a b"]), model.encode_query(["a b"]), atol=1e-6)


@pytest.mark.parametrize("towers", [1, 2])
def test_pooling_can_be_set(config: TrainConfig, tmp_path: Path, towers: int) -> None:
    starting_model(replace(config, pooling="cls", towers=towers), config.model).save_pretrained(str(tmp_path / "cls"))
    opened = SentenceTransformer(str(tmp_path / "cls"), device="cpu")
    tokens: Any = opened.encode_document(["a text"], output_value="token_embeddings")
    np.testing.assert_allclose(opened.encode_document(["a text"])[0], tokens[0][0].detach().numpy(), atol=1e-6)


def test_settings_that_two_towers_do_not_support_are_rejected(config: TrainConfig, tmp_path: Path) -> None:
    path = str(tmp_path / "two")
    starting_model(replace(config, towers=2), config.model).save_pretrained(path)
    with pytest.raises(ConfigError, match="needs an encoder with one pooling module; this one has 0"):
        starting_model(replace(config, pooling="cls", model=path), path)
    with pytest.raises(ConfigError, match="has two towers; leave it at 0"):
        starting_model(replace(config, lora_rank=2, model=path), path)
    # A later iteration starts from a model that already has the pooling.
    starting_model(replace(config, pooling="cls", towers=2), path)


def test_adapters_are_trained_and_merged(examples: Tasks, config: TrainConfig, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    model = trained(without_validation(examples), replace(config, lora_rank=2, epochs=1), tmp_path).state_dict()
    base = SentenceTransformer(config.model, device="cpu").state_dict()
    assert model.keys() == base.keys()
    changed = {name for name, value in model.items() if not torch.equal(value, base[name])}
    # Only linear layers have adapters.
    assert changed and all("embeddings" not in name and "LayerNorm" not in name for name in changed)


def test_merging_adapters_keeps_the_vectors(config: TrainConfig) -> None:
    pytest.importorskip("peft")
    model = starting_model(replace(config, lora_rank=2), config.model).eval()
    assert sum(parameter.requires_grad for parameter in model.parameters()) == 14
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    before = model.encode(TEXTS)
    merge_adapters(model)
    np.testing.assert_allclose(model.encode(TEXTS), before, atol=1e-5)
    assert not any("lora" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_checkpointed_gradients_are_computed_again_with_the_same_dropout(config: TrainConfig, lora_rank: int) -> None:
    def gradients(checkpointed: bool) -> tuple[list[torch.Tensor], int]:
        torch.manual_seed(0)
        settings = replace(config, gradient_checkpointing=checkpointed, lora_rank=lora_rank)
        model = starting_model(settings, config.model).train()
        inner: Any = model.transformers_model
        calls: list[object] = []
        inner.encoder.layer[0].intermediate.register_forward_hook(lambda *_: calls.append(1))
        torch.manual_seed(1)
        model(model.preprocess(TEXTS))["sentence_embedding"].square().sum().backward()
        return [weight.grad for weight in model.parameters() if weight.grad is not None], len(calls)

    (plain, once), (checkpointed, twice) = gradients(False), gradients(True)
    assert (once, twice) == (1, 2) and len(plain) == len(checkpointed) > 3
    assert all(torch.equal(one, other) for one, other in zip(plain, checkpointed, strict=True))


def test_an_encoder_without_layers_has_none_to_checkpoint(config: TrainConfig, tmp_path: Path) -> None:
    tokenizer = SentenceTransformer(config.model, device="cpu").tokenizer.backend_tokenizer
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)]).save_pretrained(str(tmp_path / "static"))
    settings = replace(config, model=str(tmp_path / "static"), gradient_checkpointing=True, max_tokens=0)
    with pytest.raises(ConfigError, match="has no layers to checkpoint"):
        starting_model(settings, settings.model)


@pytest.mark.parametrize("towers", [1, 2])
def test_dot_products_of_unit_vectors_are_not_trained_on(config: TrainConfig, tmp_path: Path, towers: int) -> None:
    start = SentenceTransformer(config.model, device="cpu")
    SentenceTransformer(modules=[*start.children(), Normalize()], device="cpu").save_pretrained(str(tmp_path / "unit"))
    unit = replace(config, model=str(tmp_path / "unit"), towers=towers)
    assert starting_model(unit, unit.model).similarity_fn_name == "cosine"
    assert starting_model(replace(config, temperature=0), config.model).similarity_fn_name == "dot"
    starting_model(unit, unit.model).save_pretrained(str(tmp_path / "towers"))
    for path in (unit.model, str(tmp_path / "towers")):
        with pytest.raises(ConfigError, match=r"gives unit vectors, .* must be above 0, such as 0\.05"):
            starting_model(replace(unit, temperature=0), path)


@pytest.mark.parametrize(
    ("feedback", "told"),
    [
        (FeedbackConfig(lm="tiny", context=2), "`tiny` (float32), each candidate after 2 other demonstration(s)."),
        (
            FeedbackConfig(lm="http://host/v1", context=1),
            "`http://host/v1`, each candidate after 1 other demonstration(s).",
        ),
        # As presets do, it sets a context, which listings have not.
        (
            FeedbackConfig(lm="http://host/v1?api=chat", kind="rank", context=1),
            "`http://host/v1?api=chat`, which ranked lists of candidates.",
        ),
    ],
)
def test_the_card_says_how_the_feedback_was_asked_for(
    feedback: FeedbackConfig, told: str, tasks: Path, encoder_folder: Path, tmp_path: Path
) -> None:
    config = RunConfig(feedback=feedback, train=TrainConfig(model=str(encoder_folder)))
    write_card(tmp_path, open_collection(tasks), config)
    assert f"- **Feedback of**: {told}\n" in (tmp_path / "README.md").read_text("utf-8")
