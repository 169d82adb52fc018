"""tiktoken counts from a local file, checked to be the one that is published, and fetches nothing."""

import base64
import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest
import tiktoken
import tiktoken_ext.openai_public

from udr.errors import MissingExtraError, ModelError
from udr.models import Message, TiktokenTokenizer, load_tokenizer
from udr.prompts import PromptBuilder

RANKS = {bytes([n]): n for n in range(256)} | {b"ab": 256, b"abab": 257, b"\n\n": 258}
FILE = b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in RANKS.items())
PATTERN = r"\w+|\s+|[^\w\s]+"
SPECIAL = {"<|endoftext|>": 259}


def load_tiktoken_bpe(address: str, expected_hash: str) -> dict[bytes, int]:
    raise AssertionError(f"{address} would be fetched")


def published() -> dict[str, Any]:
    """An encoding as tiktoken defines its own, but small."""
    ranks = load_tiktoken_bpe("https://somewhere/cl100k_base.tiktoken", expected_hash=hashlib.sha256(FILE).hexdigest())
    return {"name": "cl100k_base", "pat_str": PATTERN, "mergeable_ranks": ranks, "special_tokens": SPECIAL}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tiktoken_ext.openai_public, "cl100k_base", published)
    path = tmp_path / "cl100k_base.tiktoken"
    path.write_bytes(FILE)
    return path


def encoding() -> tiktoken.Encoding:
    return tiktoken.Encoding("mine", pat_str=PATTERN, mergeable_ranks=RANKS, special_tokens=SPECIAL)


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("abab", 1), ("ababab", 2), ("ab\n\nab", 3), ("é", 2)])
def test_a_file_counts_as_its_encoding_does(file: Path, text: str, tokens: int) -> None:
    loaded = load_tokenizer(str(file))
    assert loaded.count(text) == tokens == len(encoding().encode(text)) == TiktokenTokenizer(encoding()).count(text)
    assert loaded.counts_inside([text, text]) == [tokens, tokens]


def test_a_special_token_in_data_is_plain_text_and_known(file: Path) -> None:
    loaded = load_tokenizer(str(file))
    assert loaded.count("<|endoftext|>") > 1
    assert loaded.special_tokens == ("<|endoftext|>",)


def test_a_chat_has_no_template(file: Path) -> None:
    loaded = load_tokenizer(str(file))
    assert not loaded.has_chat_template
    with pytest.raises(ModelError, match="no chat template"):
        loaded.count_messages([Message(role="user", content="a")])


def test_an_object_builds_prompts() -> None:
    assert PromptBuilder(TiktokenTokenizer(encoding()), 100).tokenizer.count("abab") == 1


def test_the_fingerprint_is_that_of_name_and_tokens(file: Path) -> None:
    loaded = load_tokenizer(str(file))
    assert loaded.fingerprint == load_tokenizer(str(file)).fingerprint != TiktokenTokenizer(encoding()).fingerprint


def test_a_file_that_is_not_the_published_one_is_refused(file: Path) -> None:
    file.write_bytes(FILE[:-20])
    with pytest.raises(ModelError, match=r"not the published cl100k_base\.tiktoken; download it again"):
        load_tokenizer(str(file))


def test_an_encoding_that_is_not_known_is_refused_with_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "mine.tiktoken").write_bytes(FILE)
    with pytest.raises(ModelError, match=r"o200k_base\.tiktoken, .* found mine\.tiktoken"):
        load_tokenizer(str(tmp_path / "mine.tiktoken"))


def test_the_missing_library_is_named_with_its_extra(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'udr-icl\[tiktoken\]'"):
        load_tokenizer(str(file))
