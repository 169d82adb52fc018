"""A tokenizer of Transformers counts what Transformers counts, whatever was last asked of the object."""

import sys
from pathlib import Path

import pytest
from transformers import ByT5Tokenizer

from tests.tiny_models import byte_tokenizer
from udr.errors import InvalidInputError, MissingExtraError, ModelError
from udr.models import TransformersTokenizer, load_tokenizer

TEXTS = ["", "a", "one two </s> three\n\nfour", "größer als …"]


def test_a_fast_tokenizer_counts_as_transformers_does() -> None:
    tokenizer = byte_tokenizer()
    counter = TransformersTokenizer(tokenizer)
    assert [counter.count(text) for text in TEXTS] == [len(tokenizer(text)["input_ids"]) for text in TEXTS]
    assert counter.counts_inside(TEXTS) == [counter.count(text) - 1 for text in TEXTS]


def test_what_the_object_cuts_and_pads_has_no_say_and_stays() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = "</s>"
    cut = tokenizer("a" * 50, truncation=True, max_length=8, padding="max_length")["input_ids"]
    counter = TransformersTokenizer(tokenizer)
    assert len(cut) == 8 and counter.count("a" * 50) == 51 and counter.count("a") == 2
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


def test_the_fingerprint_tells_tokenizers_apart() -> None:
    one, other = byte_tokenizer(), byte_tokenizer()
    assert TransformersTokenizer(one).fingerprint == TransformersTokenizer(other).fingerprint
    other.add_tokens(["two"])
    assert TransformersTokenizer(one).fingerprint != TransformersTokenizer(other).fingerprint


def test_special_tokens_are_those_it_reads_as_such() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    tokenizer.add_tokens(["plain"])
    assert sorted(TransformersTokenizer(tokenizer).special_tokens) == ["</s>", "<s>", "<|turn|>"]


def test_half_a_surrogate_pair_is_refused() -> None:
    for tokenizer in (byte_tokenizer(), ByT5Tokenizer()):
        with pytest.raises(InvalidInputError, match="surrogate"):
            TransformersTokenizer(tokenizer).count("one \ud800")


def test_a_folder_that_transformers_cannot_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text("[]")
    with pytest.raises(ModelError, match="Transformers cannot read") as raised:
        load_tokenizer(str(tmp_path))
    assert "\n" not in str(raised.value)


def test_the_missing_library_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vocab.txt").write_text("a\n")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'udr-icl\[index\]'"):
        load_tokenizer(str(tmp_path))
