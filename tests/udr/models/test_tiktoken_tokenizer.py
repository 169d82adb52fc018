"""Counts by tiktoken, from a local table that must equal the published one; nothing is downloaded."""

import base64
import hashlib
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import tiktoken
import tiktoken_ext.openai_public

from tests.fakes import QUESTIONS
from udr.data import parse_task
from udr.errors import InvalidInputError, MissingExtraError, ModelError
from udr.installation import install_extra
from udr.models import LoadedTokenizer, TiktokenTokenizer, check_tokenizer, load_tokenizer
from udr.prompts import Format, PromptBuilder

RANKS = {bytes([n]): n for n in range(256)} | {b"ab": 256, b"abab": 257, b"\n\n": 258}
FILE = b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in RANKS.items())
PATTERN = r"\w+|\s+|[^\w\s]+"
SPECIAL = {"<|endoftext|>": 259}
ENCODING = tiktoken.Encoding("mine", pat_str=PATTERN, mergeable_ranks=RANKS, special_tokens=SPECIAL)


def load_tiktoken_bpe(address: str, expected_hash: str) -> dict[bytes, int]:
    raise AssertionError(f"downloads {address}")


def published() -> dict[str, Any]:
    """Return a small encoding, defined like tiktoken's own."""
    ranks = load_tiktoken_bpe("https://somewhere/cl100k_base.tiktoken", expected_hash=hashlib.sha256(FILE).hexdigest())
    return {"name": "cl100k_base", "pat_str": PATTERN, "mergeable_ranks": ranks, "special_tokens": SPECIAL}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tiktoken_ext.openai_public, "cl100k_base", published)
    path = tmp_path / "cl100k_base.tiktoken"
    path.write_bytes(FILE)
    return path


@pytest.fixture
def tokenizer(file: Path) -> LoadedTokenizer:
    return load_tokenizer(str(file))


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("abab", 1), ("ababab", 2), ("ab\n\nab", 3), ("é", 2)])
def test_a_file_and_an_encoding_count_alike(tokenizer: LoadedTokenizer, text: str, tokens: int) -> None:
    assert tokenizer.count(text) == tokens == len(ENCODING.encode(text)) == TiktokenTokenizer(ENCODING).count(text)
    assert tokenizer.counts_inside([text, text]) == [tokens, tokens]


def test_special_tokens_in_data_count_as_plain_text(tokenizer: LoadedTokenizer) -> None:
    assert tokenizer.count("<|endoftext|>") > 1
    assert tokenizer.special_tokens == ("<|endoftext|>",) and not tokenizer.has_chat_template


def test_each_message_of_a_chat_takes_four_tokens_beside_its_content(tokenizer: LoadedTokenizer) -> None:
    for given, expected in ((None, 4), (0, 0), (3, 3)):
        task = parse_task({**QUESTIONS, "instruction": "Say."})
        prompt = PromptBuilder(tokenizer, 100, message_tokens=given).build(task, "ab?", [], Format.MESSAGES)
        assert prompt.tokens == tokenizer.count("Say.\n\nQuestion: ab?\nAnswer type:") + 2 * expected


def test_the_fingerprint_depends_on_name_and_tokens(file: Path, tokenizer: LoadedTokenizer) -> None:
    assert tokenizer.fingerprint == load_tokenizer(str(file)).fingerprint != TiktokenTokenizer(ENCODING).fingerprint


def test_a_file_that_differs_from_the_published_one_is_an_error(file: Path) -> None:
    file.write_bytes(FILE[:-20])
    with pytest.raises(ModelError, match=r"not the published cl100k_base\.tiktoken; download it again"):
        load_tokenizer(str(file))


@pytest.mark.parametrize("name", ["cl100k_base", "gpt-4", "gpt-4-0613"])
def test_an_encoding_or_model_is_opened_by_name_if_its_table_is_at_hand(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("udr.models.counting.tiktoken_tokenizer._PACKAGES", ())
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(ModelError) as raised:
        load_tokenizer(name)
    with pytest.raises(ModelError, match="the table of cl100k_base is not on this machine"):
        check_tokenizer(name)
    message = f"tokenizer {name!r}: the table of cl100k_base is not on this machine, and udr does not download it; get "
    assert str(raised.value).startswith(f"{message}https://somewhere/cl100k_base.tiktoken and name the file, or")

    # The name that tiktoken gives it in its cache.
    cached = tmp_path / "cache" / hashlib.sha1(b"https://somewhere/cl100k_base.tiktoken").hexdigest()
    cached.parent.mkdir()
    cached.write_bytes(FILE)
    check_tokenizer(name)
    tokenizer = load_tokenizer(name)
    assert tokenizer.count("ab\n\nab") == 3 and tokenizer.name == name
    cached.write_bytes(FILE[:-20])
    with pytest.raises(ModelError, match=r"not the published cl100k_base\.tiktoken; download it again"):
        load_tokenizer(name)


@pytest.mark.skipif(find_spec("litellm") is None, reason="needs litellm, which dspy brings and which has the tables")
def test_a_table_in_a_package_is_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    counts = {name: load_tokenizer(name).count("Donaudampfschifffahrt") for name in ("o200k_base", "gpt-4o", "gpt-4")}
    # Counted by tiktoken itself.
    assert counts == {"o200k_base": 8, "gpt-4o": 8, "gpt-4": 10}


def test_without_tiktoken_a_model_of_openai_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    monkeypatch.setattr("udr.models.counting.tiktoken_tokenizer.find_spec", lambda name: None)
    with pytest.raises(
        MissingExtraError, match=re.escape(f"tiktoken is not installed; run: {install_extra('tiktoken')}")
    ):
        check_tokenizer("gpt-4o")


def test_what_is_no_text_cannot_be_counted(tokenizer: LoadedTokenizer) -> None:
    for count in (tokenizer.count, lambda text: tokenizer.counts_inside([text])):
        with pytest.raises(InvalidInputError, match="only text has tokens to count, found None"):
            count(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("installed", [True, False])
def test_a_hub_name_that_begins_as_a_model_of_openai_is_the_hubs(
    monkeypatch: pytest.MonkeyPatch, *, installed: bool
) -> None:
    if not installed:
        monkeypatch.setattr("udr.models.counting.tiktoken_tokenizer.find_spec", lambda name: None)
    for name in ("o1-labs/some-model", "gpt-4-labs/model"):
        for load in (load_tokenizer, check_tokenizer):
            with pytest.raises(ModelError, match=f"model '{name}': no such file or folder"):
                load(name)


def test_a_name_that_is_also_on_the_hub_is_the_hubs() -> None:
    with pytest.raises(ModelError, match="model 'gpt2': no such file or folder, and it cannot be downloaded from"):
        load_tokenizer("gpt2")
