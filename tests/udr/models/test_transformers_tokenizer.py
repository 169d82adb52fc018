"""Counts by Transformers: those of the object, whatever truncation and padding it has."""

from pathlib import Path

import pytest
from transformers import ByT5Tokenizer

from tests.tiny_models import byte_tokenizer
from udr.errors import InvalidInputError
from udr.models import TransformersTokenizer, load_tokenizer

TEXTS = ["", "a", "one two </s> three\n\nfour", "größer als …"]


def test_a_fast_tokenizer_counts_as_transformers_does() -> None:
    tokenizer = byte_tokenizer()
    counter = TransformersTokenizer(tokenizer)
    assert [counter.count(text) for text in TEXTS] == [len(tokenizer(text)["input_ids"]) for text in TEXTS]
    assert counter.counts_inside(TEXTS) == [counter.count(text) - 1 for text in TEXTS]


def test_truncation_and_padding_do_not_affect_counts_and_are_not_changed() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = "</s>"
    truncated = tokenizer("a" * 50, truncation=True, max_length=8, padding="max_length")["input_ids"]
    counter = TransformersTokenizer(tokenizer)
    assert len(truncated) == 8 and counter.count("a" * 50) == 51 and counter.count("a") == 2
    assert tokenizer.backend_tokenizer.truncation is not None


def test_a_slow_tokenizer_counts_alike_as_an_object_and_from_its_folder(tmp_path: Path) -> None:
    slow = ByT5Tokenizer()
    slow.save_pretrained(str(tmp_path))
    assert not (tmp_path / "tokenizer.json").exists()
    counter, loaded = TransformersTokenizer(slow), load_tokenizer(str(tmp_path))
    for text in TEXTS:
        assert counter.count(text) == loaded.count(text) == len(slow(text)["input_ids"])
    assert loaded.counts_inside(TEXTS) == [loaded.count(text) - 1 for text in TEXTS]
    assert counter.fingerprint == loaded.fingerprint
    assert not loaded.has_chat_template


def test_fingerprint_and_special_tokens_follow_added_tokens() -> None:
    plain, extended = byte_tokenizer(), byte_tokenizer()
    assert TransformersTokenizer(plain).fingerprint == TransformersTokenizer(extended).fingerprint
    extended.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    extended.add_tokens(["plain"])
    assert TransformersTokenizer(plain).fingerprint != TransformersTokenizer(extended).fingerprint
    assert sorted(TransformersTokenizer(extended).special_tokens) == ["</s>", "<s>", "<|turn|>"]


def test_a_long_text_is_counted_in_slices_as_a_whole() -> None:
    tokenizer, text = byte_tokenizer(), "one two\n" * 10_000
    counter = TransformersTokenizer(tokenizer)
    assert counter.count(text) == len(tokenizer(text)["input_ids"])
    assert counter.counts_inside([text, "a"]) == [counter.count(text) - 1, 1]


def test_what_is_no_text_cannot_be_counted() -> None:
    for tokenizer in (byte_tokenizer(), ByT5Tokenizer()):
        counter = TransformersTokenizer(tokenizer)
        for value in (None, ["one"]):
            with pytest.raises(InvalidInputError, match="only text has tokens to count, found"):
                counter.count(value)  # type: ignore[arg-type]
            with pytest.raises(InvalidInputError, match="only text has tokens to count, found"):
                counter.counts_inside([value])  # type: ignore[list-item]


def test_a_lone_surrogate_is_an_error() -> None:
    for tokenizer in (byte_tokenizer(), ByT5Tokenizer()):
        with pytest.raises(InvalidInputError, match="surrogate"):
            TransformersTokenizer(tokenizer).count("one \ud800")
