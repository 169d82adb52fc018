"""Token counts beside the rows: they are the tokenizer's own, and decide the version but not its vectors."""

import hashlib
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tests.fakes import NOTES, HashEncoder, write_collection, write_task
from tests.index.build.test_builder import tree
from tests.index.build.test_reuse import change
from tests.tiny_models import save_encoder
from tests.udr.store.test_version import rewrite_manifest
from udr.data import demonstration_text
from udr.models import FileTokenizer
from udr.store import open_version, verify
from udr_index.build import BuildConfig, build
from udr_index.versions import diff_versions


def save_tokenizer(folder: Path, split: pre_tokenizers.PreTokenizer) -> str:
    """Save a tokenizer that tells words apart by ``split``, adds two tokens around a text, and cuts at 4."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0, "<": 1, ">": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = split
    tokenizer.post_processor = processors.TemplateProcessing(single="< $A >", special_tokens=[("<", 1), (">", 2)])
    tokenizer.enable_truncation(4)
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tokenizer(tmp_path_factory.mktemp("tokenizers") / "words", pre_tokenizers.Whitespace())


@pytest.fixture(scope="module")
def spaces(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tokenizer(tmp_path_factory.mktemp("tokenizers") / "spaces", pre_tokenizers.WhitespaceSplit())


@pytest.fixture
def tokenised(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that is tokenised from now on."""
    texts, counts = list[str](), FileTokenizer.counts_inside

    def watched(self: FileTokenizer, some: Sequence[str]) -> list[int]:
        texts.extend(some)
        return counts(self, some)

    monkeypatch.setattr(FileTokenizer, "counts_inside", watched)
    return texts


def refuse_wrong_counts(index: Path, tokenizer: Path) -> None:
    """Fail unless every row of an index has the count that the tokenizers library gives its text."""
    oracle = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    oracle.no_truncation()
    fingerprint = hashlib.sha256((tokenizer / "tokenizer.json").read_bytes()).hexdigest()[:16]
    version = open_version(index)
    for name, part in version.manifest.partitions.items():
        with closing(version.demonstrations()) as table:
            counted = table.counted_rows(name, range(part.count))
        texts = [demonstration_text(part.task, row) for row, _ in counted]
        expected = [len(oracle.encode(text, add_special_tokens=False).ids) for text in texts]
        assert [count and (count.tokenizer, count.count) for _, count in counted] == [
            (fingerprint, count) for count in expected
        ]


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_every_row_has_the_tokenizer_s_own_count(
    collection: Path, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("udr_index.build.token_counts._AT_ONCE", at_once)

    build(BuildConfig(tasks=collection, out=tmp_path, tokenizer=words), HashEncoder())

    refuse_wrong_counts(tmp_path, Path(words))
    assert verify(tmp_path) == []


def test_the_encoder_s_own_tokenizer_counts_where_none_is_named(collection: Path, tmp_path: Path) -> None:
    model = save_encoder(tmp_path / "model")

    build(BuildConfig(tasks=collection, out=tmp_path / "out", model=str(model), device="cpu"))

    refuse_wrong_counts(tmp_path / "out", model)
    tokenizer = open_version(tmp_path / "out").manifest.tokenizer
    assert tokenizer is not None and tokenizer.name == str(model)


def test_an_encoder_without_a_tokenizer_counts_nothing(index: Path) -> None:
    version = open_version(index)

    assert version.manifest.tokenizer is None
    with closing(version.demonstrations()) as table:
        assert {count for _, count in table.counted_rows("notes", range(20))} == {None}


def test_another_tokenizer_gives_another_version_and_keeps_the_vectors(
    collection: Path, words: str, spaces: str, tmp_path: Path
) -> None:
    config = BuildConfig(tasks=collection, out=tmp_path / "out", tokenizer=words)
    old = build(config, HashEncoder())

    new = build(replace(config, tokenizer=spaces, reuse=config.out), HashEncoder())

    assert new.version != old.version and new.encoded == 0
    refuse_wrong_counts(config.out, Path(spaces))
    fresh = build(replace(config, out=tmp_path / "fresh", tokenizer=spaces), HashEncoder())
    assert tree(new.path) == tree(fresh.path)
    found = diff_versions(config.out, old.version, new.version)
    assert [one.path for one in found.differences] == ["tokenizer.fingerprint", "tokenizer.name"]
    assert all(task.rows.is_empty for task in found.tasks.values())


def test_only_rows_that_changed_are_counted_again(words: str, tmp_path: Path, tokenised: list[str]) -> None:
    root = write_collection(tmp_path / "tasks")
    config = BuildConfig(tasks=root, out=tmp_path / "out", tokenizer=words)
    build(config, HashEncoder())
    change(root, "mood/notes/train.jsonl", "fine", "very fine")
    tokenised.clear()

    built = build(replace(config, reuse=config.out), HashEncoder())

    assert tokenised == ["Note: what a very fine monday\nMood: glad"]
    assert tree(built.path) == tree(build(replace(config, out=tmp_path / "fresh"), HashEncoder()).path)


def test_counts_are_not_taken_over_where_equal_texts_may_be_other_demonstrations(words: str, tmp_path: Path) -> None:
    root = tmp_path / "tasks"
    for instruction, template in (("Give it.\nNote:", "{text}"), ("Give it.", "Note:\n{text}")):
        # The encoder reads the same of both, the prompt does not.
        task = {**NOTES, "instruction": instruction, "input": template}
        write_task(root, task, train=[{"id": "1", "input": {"text": "fine"}, "target": "glad"}])
        built = build(
            BuildConfig(tasks=root, out=tmp_path / "out", tokenizer=words, reuse=tmp_path / "out"), HashEncoder()
        )
        refuse_wrong_counts(tmp_path / "out", Path(words))
    assert built.encoded == 0


def test_building_again_counts_nothing(collection: Path, words: str, tmp_path: Path, tokenised: list[str]) -> None:
    config = BuildConfig(tasks=collection, out=tmp_path, tokenizer=words)
    first = build(config, HashEncoder())
    tokenised.clear()

    assert build(config, HashEncoder()).version == first.version
    assert tokenised == []


def test_a_build_that_fails_while_it_counts_goes_on(
    collection: Path, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, calls = FileTokenizer.counts_inside, list[int]()

    def failing(self: FileTokenizer, texts: Sequence[str]) -> list[int]:
        calls.append(len(texts))
        if len(calls) == 3:
            raise MemoryError
        return counts(self, texts)

    monkeypatch.setattr(FileTokenizer, "counts_inside", failing)
    config = BuildConfig(tasks=collection, out=tmp_path / "out", tokenizer=words)
    with pytest.raises(MemoryError):
        build(config, HashEncoder())

    built = build(config, HashEncoder())

    assert tree(built.path) == tree(build(replace(config, out=tmp_path / "fresh"), HashEncoder()).path)
    assert verify(config.out) == []


def test_a_count_that_was_altered_is_found(collection: Path, words: str, tmp_path: Path) -> None:
    built = build(BuildConfig(tasks=collection, out=tmp_path, tokenizer=words), HashEncoder())
    with closing(sqlite3.connect(built.path / "demonstrations.sqlite")) as connection, connection:
        connection.execute("UPDATE tokens SET count = count + 1 WHERE task = 'notes' AND position = 3")

    assert [(finding.path, finding.problem.split(":")[0]) for finding in verify(tmp_path)] == [
        (f"versions/{built.version}/demonstrations.sqlite", "is altered")
    ]


def test_an_index_of_the_former_format_is_built_anew(
    copy: Path, collection: Path, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rewrite_manifest(copy, format=3)

    built = build(BuildConfig(tasks=collection, out=tmp_path, tokenizer=words, reuse=copy), HashEncoder())

    assert built.encoded == 53
    assert "the index has format 3, this udr reads format 4; run: udr index build" in caplog.text
