"""Embedding by length gives the vectors and gradients of the plain way."""

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.merged_forward import embed_columns
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from tests.tiny_models import byte_tokenizer
from udr_training.losses import embed

TEXTS = [["a", "a much longer text than the others are", "bc"], ["x y z", "k", "some more words here, and more"]]


def expected_vectors(model: SentenceTransformer, columns: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    return torch.stack(embed_columns(model, columns, separate_first=False), dim=1)


@pytest.mark.parametrize("chunk_tokens", [1, 20, 10_000])
def test_vectors_and_gradients_equal_those_of_padded_columns(model: SentenceTransformer, chunk_tokens: int) -> None:
    columns = [model.preprocess(texts) for texts in TEXTS]
    weights = torch.randn(3, 2, 32)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    vectors, expected = embed(model, columns, chunk_tokens=chunk_tokens), expected_vectors(model, columns)
    torch.testing.assert_close(vectors, expected)
    gradients, wanted = (
        torch.autograd.grad((value * weights).sum(), parameters, allow_unused=True) for value in (vectors, expected)
    )
    torch.testing.assert_close(gradients, wanted, atol=1e-4, rtol=1e-4)


def test_each_pass_is_as_wide_as_its_longest_text_unless_padded_on_the_left(model: SentenceTransformer) -> None:
    masks: list[torch.Tensor] = []
    handle = model.register_forward_pre_hook(lambda _, inputs: masks.append(inputs[0]["attention_mask"]))
    embed(model, [model.preprocess(texts) for texts in TEXTS], chunk_tokens=60)
    handle.remove()
    assert len(masks) > 1 and all(mask.shape[1] == int(mask.sum(dim=1).max()) for mask in masks)
    columns = [model.preprocess(texts) for texts in TEXTS]
    for column in columns:
        column |= {name: column[name].flip(1) for name in ("input_ids", "attention_mask")}
    torch.testing.assert_close(embed(model, columns), expected_vectors(model, columns))


def test_static_embeddings_are_embedded_column_by_column() -> None:
    # They take all texts of a column in one row of tokens.
    words = StaticEmbedding(byte_tokenizer().backend_tokenizer, embedding_dim=16)
    model = SentenceTransformer(modules=[words], device="cpu")
    columns = [model.preprocess(texts) for texts in TEXTS]
    expected = torch.stack([model(dict(column))["sentence_embedding"] for column in columns], dim=1)
    torch.testing.assert_close(embed(model, columns), expected)
    torch.testing.assert_close(embed(model, columns[:1]), expected[:, :1])
