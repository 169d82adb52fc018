"""Token counts beside the rows: they are the tokenizer's own, and change the version but not its vectors."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tests.fakes import NOTES, write_collection, write_task
from tests.index.builds import build_index, replace_once, tree
from tests.tiny_models import save_encoder
from udr.data import demonstration_text
from udr.models import FileTokenizer, load_tokenizer
from udr.store import open_version, verify
from udr_index.build import BuildConfig, build
from udr_index.versions import diff_versions


def save_tokenizer(folder: Path, split: Any) -> str:
    """Save a tokenizer that separates words by ``split``, adds two tokens around a text, and truncates at 4."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0, "<": 1, ">": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = split
    tokenizer.post_processor = processors.TemplateProcessing(single="< $A >", special_tokens=[("<", 1), (">", 2)])
    tokenizer.enable_truncation(4)
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tokenizer(tmp_path_factory.mktemp("words"), pre_tokenizers.Whitespace())


@pytest.fixture
def tokenised(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that is tokenised."""
    texts, counts_inside = list[str](), FileTokenizer.counts_inside

    def record(self: FileTokenizer, batch: Sequence[str]) -> list[int]:
        texts.extend(batch)
        return counts_inside(self, batch)

    monkeypatch.setattr(FileTokenizer, "counts_inside", record)
    return texts


def check_counts(index: Path, tokenizer: str) -> None:
    """Compare every count with what the tokenizers library gives for the row's text."""
    oracle = Tokenizer.from_file(f"{tokenizer}/tokenizer.json")
    oracle.no_truncation()
    fingerprint, version = load_tokenizer(tokenizer).fingerprint, open_version(index)
    for name, part in version.manifest.partitions.items():
        with closing(version.demonstrations()) as table:
            for row, count in table.counted_rows(name, range(part.count)):
                text = demonstration_text(part.task, row)
                expected = len(oracle.encode(text, add_special_tokens=False).ids)
                assert count is not None and (count.tokenizer, count.count) == (fingerprint, expected)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_counts_are_those_of_the_tokenizer(collection: Path, words: str, tmp_path: Path, batch_size: int) -> None:
    build_index(collection, tmp_path, tokenizer=words, batch_size=batch_size)

    check_counts(tmp_path, words)
    assert verify(tmp_path) == []


def test_tokenizer_defaults_to_the_encoder_s(collection: Path, tmp_path: Path) -> None:
    model = save_encoder(tmp_path / "model")

    build(BuildConfig(tasks=collection, out=tmp_path / "out", model=str(model), device="cpu", pool=3))

    check_counts(tmp_path / "out", str(model))
    tokenizer = open_version(tmp_path / "out").manifest.tokenizer
    assert tokenizer is not None and tokenizer.name == str(model)


def test_nothing_is_counted_without_a_tokenizer(index: Path) -> None:
    version = open_version(index)

    assert version.manifest.tokenizer is None
    with closing(version.demonstrations()) as table:
        assert {count for _, count in table.counted_rows("notes", range(20))} == {None}


def test_other_tokenizer_gives_another_version_with_the_same_vectors(
    collection: Path, words: str, tmp_path: Path
) -> None:
    (tmp_path / "spaces").mkdir()
    spaces, out = save_tokenizer(tmp_path / "spaces", pre_tokenizers.WhitespaceSplit()), tmp_path / "out"
    old = build_index(collection, out, tokenizer=words)

    new = build_index(collection, out, tokenizer=spaces, reuse=out)

    assert new.version != old.version and new.encoded == 0
    check_counts(out, spaces)
    assert tree(new.path) == tree(build_index(collection, tmp_path / "fresh", tokenizer=spaces).path)
    diff = diff_versions(out, old.version, new.version)
    assert [item.path for item in diff.differences] == ["tokenizer.fingerprint", "tokenizer.name"]
    assert all(task.rows.is_empty for task in diff.tasks.values())


def test_only_changed_rows_are_counted(words: str, tmp_path: Path, tokenised: list[str]) -> None:
    tasks, out = write_collection(tmp_path / "tasks"), tmp_path / "out"
    build_index(tasks, out, tokenizer=words)
    tokenised.clear()
    build_index(tasks, out, tokenizer=words)
    assert tokenised == []
    replace_once(tasks / "mood/notes/train.jsonl", "fine", "very fine")

    built = build_index(tasks, out, tokenizer=words, reuse=out)

    assert tokenised == ["Note: what a very fine monday\nMood: glad"]
    assert tree(built.path) == tree(build_index(tasks, tmp_path / "fresh", tokenizer=words).path)


def test_build_resumes_after_counting_fails(
    collection: Path, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts_inside, calls = FileTokenizer.counts_inside, list[int]()

    def failing(self: FileTokenizer, texts: Sequence[str]) -> list[int]:
        calls.append(len(texts))
        if len(calls) == 3:
            raise MemoryError
        return counts_inside(self, texts)

    monkeypatch.setattr(FileTokenizer, "counts_inside", failing)
    with pytest.raises(MemoryError):
        build_index(collection, tmp_path / "out", tokenizer=words)

    built = build_index(collection, tmp_path / "out", tokenizer=words)

    assert tree(built.path) == tree(build_index(collection, tmp_path / "fresh", tokenizer=words).path)
    assert verify(tmp_path / "out") == []


def test_counts_are_not_reused_if_instructions_differ(words: str, tmp_path: Path) -> None:
    tasks, out = tmp_path / "tasks", tmp_path / "out"
    for instruction, template in (("Give it.\nNote:", "{text}"), ("Give it.", "Note:\n{text}")):
        # The encoder reads the same text for both, the prompt does not.
        task = {**NOTES, "instruction": instruction, "input": template}
        write_task(tasks, task, train=[{"id": "1", "input": {"text": "fine"}, "target": "glad"}])
        built = build_index(tasks, out, tokenizer=words, reuse=out)
        check_counts(out, words)
    assert built.encoded == 0
