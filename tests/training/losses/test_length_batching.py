"""Embedding by length, and towers: the same vectors, gradients and models as the plain way."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.merged_forward import embed_columns
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from tests.tiny_models import byte_tokenizer
from udr.models import SentenceEncoder
from udr_training.config import TrainConfig
from udr_training.losses import embed, length_batching
from udr_training.trainer import has_two_towers, starting_model

TEXTS = [["a", "a much longer text than the others are", "bc"], ["x y z", "k", "some more words here, and more"]]


@pytest.fixture
def model(encoder_folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(encoder_folder), device="cpu").eval()


@pytest.mark.parametrize("budget", [1, 20, 10_000])
def test_vectors_and_gradients_equal_those_of_padded_columns(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    monkeypatch.setitem(length_batching.CHUNK_TOKENS, "cpu", budget)
    columns = [model.preprocess(texts) for texts in TEXTS]
    weights = torch.randn(3, 2, 32)
    vectors = embed(model, columns)
    torch.autograd.backward((vectors * weights).sum())
    gradients = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    expected = torch.stack(embed_columns(model, columns, separate_first=False), dim=1)
    torch.autograd.backward((expected * weights).sum())
    torch.testing.assert_close(vectors, expected)
    for one, other in zip(gradients, [p.grad for p in model.parameters() if p.grad is not None], strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_no_forward_pass_is_wider_than_its_longest_text(model: SentenceTransformer) -> None:
    seen: list[tuple[int, int]] = []

    def note(_: object, inputs: tuple[dict[str, torch.Tensor], ...]) -> None:
        mask = inputs[0]["attention_mask"]
        seen.append((mask.shape[1], int(mask.sum(dim=1).max())))

    handle = model.register_forward_pre_hook(note)
    embed(model, [model.preprocess(texts) for texts in TEXTS])
    handle.remove()
    assert seen and all(width == longest for width, longest in seen)


def test_columns_padded_on_the_left_take_the_plain_way(model: SentenceTransformer) -> None:
    columns = [model.preprocess(texts) for texts in TEXTS]
    for column in columns:
        column["input_ids"], column["attention_mask"] = column["input_ids"].flip(1), column["attention_mask"].flip(1)
    expected = torch.stack(embed_columns(model, columns, separate_first=False), dim=1)
    torch.testing.assert_close(embed(model, columns), expected)


def test_features_that_are_not_a_row_a_text_go_through_whole() -> None:
    # Static embeddings take all texts of a column in one row of tokens.
    words = StaticEmbedding(byte_tokenizer().backend_tokenizer, embedding_dim=16)
    model = SentenceTransformer(modules=[words], device="cpu")
    columns = [model.preprocess(texts) for texts in TEXTS]
    expected = torch.stack([model(dict(column))["sentence_embedding"] for column in columns], dim=1)
    torch.testing.assert_close(embed(model, columns), expected)
    torch.testing.assert_close(embed(model, columns[:1]), expected[:, :1])


def test_two_towers_start_alike_and_are_trained_apart(encoder_folder: Path, tmp_path: Path) -> None:
    config = TrainConfig(model=str(encoder_folder), towers=2)
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
    # A model that has two towers already is trained on as it is.
    again = starting_model(config, str(tmp_path / "model"))
    np.testing.assert_allclose(again.encode_query(["a b"]), model.encode_query(["a b"]), atol=1e-6)
