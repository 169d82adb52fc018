"""Counting a long text in slices: the count is that of the whole, for every kind of tokenizer."""

import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from udr.models import FileTokenizer, slices, tokenizes_slices_alike

TEXT = (
    "Review: a fine film\nLabel: good\n\nReview: it's déjà vu!\r\nLabel: bad\n 12\n"
    "数据\n\n\n\tend of the\nline \N{ROCKET}\n"
)


def trained(model: models.Model, trainer: trainers.Trainer, pre: Any = None, normalizer: Any = None) -> Tokenizer:
    tokenizer = Tokenizer(model)
    if pre is not None:
        tokenizer.pre_tokenizer = pre
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator([TEXT * 3], trainer)
    return tokenizer


def pairs(pre: Any = None, normalizer: Any = None) -> Tokenizer:
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    return trained(models.BPE(), trainer, pre, normalizer)


def word_pieces() -> Tokenizer:
    tokenizer = trained(
        models.WordPiece(unk_token="[UNK]"),
        trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]", "[CLS]", "[SEP]"]),
        pre_tokenizers.BertPreTokenizer(),
        normalizers.BertNormalizer(),
    )
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return tokenizer


def with_an_added_line() -> Tokenizer:
    tokenizer = pairs(pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.add_tokens([AddedToken("film\nLabel")])
    return tokenizer


ALIKE: Mapping[str, Callable[[], Tokenizer]] = {
    "word pieces": word_pieces,
    "byte-level pairs": lambda: pairs(pre_tokenizers.ByteLevel(add_prefix_space=False)),
}
OTHERS: Mapping[str, Callable[[], Tokenizer]] = {
    "pairs over lines": pairs,
    "a space in front": lambda: pairs(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "sentence pieces": lambda: pairs(pre_tokenizers.Metaspace()),
    "stripped ends": lambda: pairs(pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.Strip()),
    "an added token over lines": with_an_added_line,
}
KINDS = {**ALIKE, **OTHERS}


def test_slices_are_the_text() -> None:
    text = TEXT * 2_000
    parts = list(slices(text))
    assert "".join(parts) == text
    assert len(parts) > 3
    assert max(map(len, parts)) < 33_000
    assert list(slices("x" * 100_000)) == ["x" * 100_000]


@pytest.mark.parametrize("kind", KINDS)
def test_only_tokenizers_that_split_there_are_alike(kind: str) -> None:
    assert tokenizes_slices_alike(KINDS[kind]()) is (kind in ALIKE)


@pytest.mark.parametrize("kind", KINDS)
def test_the_count_of_a_long_text_is_that_of_the_whole(kind: str) -> None:
    tokenizer, generator = KINDS[kind](), random.Random(0)
    pieces = [*TEXT, "\n", "\n\n", "film\nLabel", "of", "e\N{COMBINING ACUTE ACCENT}"]
    text = "".join(generator.choices(pieces, k=100_000))
    whole = len(tokenizer.encode(text))
    assert FileTokenizer("made", tokenizer).count(text) == whole
