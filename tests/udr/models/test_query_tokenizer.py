"""Direct tokenising: the tokens of the model's own preprocessing, or none of it."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from tests.tiny_models import save_encoder
from udr.models import QueryTokens, query_tokens

TEXTS = ["Where?", "  Two  spaces, and ünïcödé 日本 👍🏽\n", "x" * 1000, "Where?"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def model(folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(folder), device="cpu")


def made(
    model: SentenceTransformer, prompt: str = "", change: Callable[[str], str] = lambda text: text
) -> QueryTokens | None:
    def preprocess(texts: list[str]) -> dict[str, Any]:
        features: dict[str, Any] = model.preprocess([change(text) for text in texts], prompt=prompt, task="query")
        return features

    return query_tokens(model.tokenizer.backend_tokenizer, prompt, preprocess)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("prompt", ["", "ask: "])
def test_tokens_are_those_of_the_models_own_preprocessing(model: SentenceTransformer, side: str, prompt: str) -> None:
    model.tokenizer.padding_side = side
    tokens = made(model, prompt)
    assert tokens is not None and tokens.longest == 256

    found, expected = tokens.together(TEXTS), model.preprocess(TEXTS, prompt=prompt or None, task="query")

    assert found.keys() == {"input_ids", "attention_mask"}
    for name, rows in found.items():
        np.testing.assert_array_equal(rows, expected[name].numpy())
    # What else the model is given is the same for every text.
    assert tokens.constants == {name: value for name, value in expected.items() if name not in found}


def test_batches_hold_texts_of_like_length_and_say_their_places(model: SentenceTransformer) -> None:
    tokens = made(model)
    assert tokens is not None
    texts = ["a" * length for length in (9, 1, 5, 3, 7)]

    batches = list(tokens.batches(texts, 2, math.inf))

    assert [places for places, _ in batches] == [[1, 3], [2, 4], [0]]
    assert [batch["input_ids"].shape for _, batch in batches] == [(2, 4), (2, 8), (1, 10)]
    for places, batch in batches:
        together = tokens.together([texts[place] for place in places])
        np.testing.assert_array_equal(batch["input_ids"], together["input_ids"])
    assert list(tokens.batches([], 2, math.inf)) == []


@pytest.mark.parametrize(
    ("threads", "size", "sizes"),
    [
        (1, 8, [8, 8, 8, 3]),
        (2, 8, [6, 5, 4, 3, 2, 2, 2, 2, 1]),
        (2, 4, [4, 4, 4, 3, 3, 2, 2, 2, 2, 1]),
        (3, 8, [4, 3, 3] + [2] * 8 + [1]),
    ],
)
def test_threads_take_ever_less_so_that_all_end_together(
    model: SentenceTransformer, threads: int, size: int, sizes: list[int]
) -> None:
    tokens = made(model)
    assert tokens is not None

    batches = [places for places, _ in tokens.batches(["some text"] * 27, size, math.inf, threads)]

    assert [len(places) for places in batches] == sizes
    assert sorted(place for places in batches for place in places) == list(range(27))


def test_many_texts_are_tokenised_some_at_a_time(model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("udr.models.query_tokenizer.AT_ONCE", 3)
    tokens = made(model)
    assert tokens is not None

    batches = [places for places, _ in tokens.batches(["aa", "a", "aaa", "a", "aaaa"], 2, math.inf)]

    assert batches == [[1, 0], [2], [3, 4]]


@pytest.mark.parametrize(
    ("padding", "lengths"),
    [
        (0, [[3, 3], [4], [8], [10]]),
        (0.12, [[3, 3], [4], [8, 10]]),
        (0.2, [[3, 3, 4], [8, 10]]),
        (9, [[3, 3, 4, 8, 10]]),
    ],
)
def test_batches_hold_little_padding(model: SentenceTransformer, padding: float, lengths: list[list[int]]) -> None:
    tokens = made(model)
    assert tokens is not None
    # A token begins every text.
    texts = ["a" * (length - 1) for length in (10, 3, 8, 3, 4)]

    batches = [batch["attention_mask"] for _, batch in tokens.batches(texts, 32, padding)]

    assert [rows.sum(axis=1).tolist() for rows in batches] == lengths
    assert all(rows.size <= (1 + padding) * rows.sum() for rows in batches)


def test_a_longer_limit_is_kept(model: SentenceTransformer) -> None:
    model.max_seq_length = 12
    tokens = made(model)
    assert tokens is not None

    assert tokens.together(["x" * 1000])["input_ids"].shape == (1, 12)


def test_the_models_own_tokenizer_is_left_alone(model: SentenceTransformer) -> None:
    tokens = made(model)
    assert tokens is not None
    expected = model.preprocess(TEXTS, task="query")["input_ids"]

    tokens.together(TEXTS)

    assert model.tokenizer.backend_tokenizer.padding is not None
    np.testing.assert_array_equal(model.preprocess(TEXTS, task="query")["input_ids"], expected)


@pytest.mark.parametrize("change", [str.lower, str.strip, lambda text: text.replace("é", "e"), lambda text: f"{text}."])
def test_a_model_that_changes_texts_first_is_left_to_its_own_way(
    model: SentenceTransformer, change: Callable[[str], str]
) -> None:
    assert made(model) is not None
    assert made(model, change=change) is None


def test_a_model_that_cuts_elsewhere_is_left_to_its_own_way(model: SentenceTransformer) -> None:
    assert made(model, change=lambda text: text[-200:] if len(text) > 800 else text) is None


def test_a_model_that_reads_something_else_is_left_to_its_own_way(model: SentenceTransformer) -> None:
    backend = model.tokenizer.backend_tokenizer

    def preprocess(texts: list[str]) -> dict[str, Any]:
        features: dict[str, Any] = model.preprocess(texts, task="query")
        return {**features, "pixel_values": features["input_ids"]}

    assert query_tokens(backend, "", preprocess) is None
    assert query_tokens(backend, "", lambda texts: {"modality": "text"}) is None
