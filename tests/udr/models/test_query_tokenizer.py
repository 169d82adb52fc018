"""The direct tokenizer: equal to the model's own preprocessing, or not used."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from udr.models import QueryTokenizer, direct_tokenizer

TEXTS = ["Where?", "  Two  spaces, and ünïcödé 日本 👍🏽\n", "x" * 1000, "Where?"]
Change = Callable[[str], str]


@pytest.fixture
def transformer(model: Path) -> SentenceTransformer:
    return SentenceTransformer(str(model), device="cpu")


def tokenizer_of(transformer: SentenceTransformer, prompt: str = "", change: Change = str) -> QueryTokenizer | None:
    def preprocess(texts: list[str]) -> dict[str, Any]:
        features: dict[str, Any] = transformer.preprocess([change(text) for text in texts], prompt=prompt, task="query")
        return features

    return direct_tokenizer(transformer.tokenizer.backend_tokenizer, prompt, preprocess)


@pytest.fixture
def tokenizer(transformer: SentenceTransformer) -> QueryTokenizer:
    tokenizer = tokenizer_of(transformer)
    assert tokenizer is not None
    return tokenizer


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("prompt", ["", "ask: "])
def test_tokens_equal_those_of_the_models_own_preprocessing(
    transformer: SentenceTransformer, side: str, prompt: str
) -> None:
    transformer.tokenizer.padding_side, transformer.max_seq_length = side, 12
    tokenizer = tokenizer_of(transformer, prompt)
    assert tokenizer is not None and tokenizer.longest == 12 == tokenizer.batch(TEXTS)["input_ids"].shape[1]
    tokens, expected = tokenizer.batch(TEXTS), transformer.preprocess(TEXTS, prompt=prompt or None, task="query")
    assert tokens.keys() == {"input_ids", "attention_mask"}
    for name, rows in tokens.items():
        np.testing.assert_array_equal(rows, expected[name].numpy())
    assert tokenizer.constants == {name: value for name, value in expected.items() if name not in tokens}


def test_batches_have_texts_of_similar_length_and_their_positions(tokenizer: QueryTokenizer) -> None:
    texts = ["a" * length for length in (9, 1, 5, 3, 7)]
    batches = list(tokenizer.batches(texts, 2, math.inf))
    assert [positions for positions, _ in batches] == [[0, 4], [2, 3], [1]]
    assert [batch["input_ids"].shape for _, batch in batches] == [(2, 10), (2, 6), (1, 2)]
    for positions, batch in batches:
        expected = tokenizer.batch([texts[position] for position in positions])
        np.testing.assert_array_equal(batch["input_ids"], expected["input_ids"])
    assert list(tokenizer.batches([], 2, math.inf)) == []
    # A limited number of texts is tokenised at once.
    few = tokenizer.batches(["aa", "a", "aaa", "a", "aaaa"], 2, math.inf, at_once=3)
    assert [positions for positions, _ in few] == [[2, 0], [1], [4, 3]]


@pytest.mark.parametrize(
    ("threads", "size", "sizes"),
    [
        (1, 8, [8, 8, 8, 3]),
        (2, 8, [8, 8, 5, 4, 2]),
        (2, 4, [4] * 6 + [3]),
        (3, 8, [8, 6, 4, 4, 4, 1]),
        # Every thread has a batch.
        (16, 8, [2] * 13 + [1]),
    ],
)
def test_batches_of_several_threads_become_smaller(
    tokenizer: QueryTokenizer, threads: int, size: int, sizes: list[int]
) -> None:
    batches = [positions for positions, _ in tokenizer.batches(["some text"] * 27, size, math.inf, threads)]
    assert [len(positions) for positions in batches] == sizes
    assert sorted(position for positions in batches for position in positions) == list(range(27))


@pytest.mark.parametrize(
    ("padding", "lengths"),
    [
        (0, [[10], [8], [4], [3, 3]]),
        (0.12, [[10, 8], [4], [3, 3]]),
        (0.2, [[10, 8], [4, 3, 3]]),
        (9, [[10, 8, 4, 3, 3]]),
    ],
)
def test_batches_have_limited_padding(tokenizer: QueryTokenizer, padding: float, lengths: list[list[int]]) -> None:
    # Each text starts with a special token.
    texts = ["a" * (length - 1) for length in (10, 3, 8, 3, 4)]
    batches = [batch["attention_mask"] for _, batch in tokenizer.batches(texts, 32, padding)]
    assert [rows.sum(axis=1).tolist() for rows in batches] == lengths
    assert all(rows.size <= (1 + padding) * rows.sum() for rows in batches)


def test_the_models_own_tokenizer_is_not_changed(transformer: SentenceTransformer, tokenizer: QueryTokenizer) -> None:
    expected = transformer.preprocess(TEXTS, task="query")["input_ids"]
    tokenizer.batch(TEXTS)
    assert transformer.tokenizer.backend_tokenizer.padding is not None
    np.testing.assert_array_equal(transformer.preprocess(TEXTS, task="query")["input_ids"], expected)


CHANGES: list[Change] = [str.lower, str.strip, lambda text: text.replace("é", "e"), lambda text: f"{text}."]


@pytest.mark.parametrize("change", [*CHANGES, lambda text: text[-200:] if len(text) > 800 else text])
def test_a_model_that_changes_texts_has_no_direct_tokenizer(transformer: SentenceTransformer, change: Change) -> None:
    assert tokenizer_of(transformer, change=change) is None


def test_a_model_with_other_inputs_has_no_direct_tokenizer(transformer: SentenceTransformer) -> None:
    backend = transformer.tokenizer.backend_tokenizer

    def preprocess(texts: list[str]) -> dict[str, Any]:
        features: dict[str, Any] = transformer.preprocess(texts, task="query")
        return {**features, "pixel_values": features["input_ids"]}

    assert direct_tokenizer(backend, "", preprocess) is None
    assert direct_tokenizer(backend, "", lambda texts: {"modality": "text"}) is None
