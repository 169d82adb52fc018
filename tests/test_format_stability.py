"""This release reads an earlier one's files: an index, and a run that was interrupted in its second training."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import HashEncoder
from udr import Retriever
from udr.cli import main
from udr.data import formatting
from udr.search import LOWER, RULE
from udr.store import MANIFEST, open_version, verify
from udr_index.build import BuildConfig, build

KEPT = Path(__file__).parent / "fixtures" / "format_4"
EXAMPLES = Path(__file__).parents[1] / "examples" / "tasks"


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the fixtures, as the working directory: the run names its models by relative paths."""
    folder = Path(shutil.copytree(KEPT, tmp_path / "kept"))
    monkeypatch.chdir(folder)
    return folder


def test_the_wordings_are_unchanged() -> None:
    assert (formatting.LM_WORDING, formatting.ENCODER_WORDING) == ("aee2541cbf74ddc6", "4495a71b96bcc406")


def test_the_version_of_the_example_index_is_unchanged(tmp_path: Path) -> None:
    assert build(BuildConfig(tasks=EXAMPLES, out=tmp_path), HashEncoder()).version == "45c4a485fae5c90b"


def dense(folder: Path) -> dict[Path, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST]
    return {path.relative_to(folder): path.read_bytes() for path in paths if "bm25" not in path.parts}


def test_an_index_opens_and_is_rebuilt_byte_for_byte(kept: Path) -> None:
    """All but BM25, whose rule for words is another: the old index answers by its own."""
    assert verify(kept / "index") == []
    old = open_version(kept / "index")
    new = build(BuildConfig(tasks=kept / "tasks", out=kept / "again", bm25=True), HashEncoder())
    assert dense(new.path) == dense(old.path)
    parts = open_version(kept / "again").manifest.partitions
    assert {part.lexical for part in parts.values()} == {RULE}
    as_before = {name: replace(part, lexical=LOWER) for name, part in parts.items()}
    assert old.manifest.partitions == as_before and old.manifest.to_bytes() == (old.path / MANIFEST).read_bytes()

    with Retriever.open(kept / "index", encoder=HashEncoder()) as retriever:
        retrieval = retriever.retrieve("questions", "Who owns the boat?", k=3, mode="hybrid")
    assert retrieval.index_version == old.manifest.version and len(retrieval) == 3


def scores(run: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(run / "feedback.sqlite")) as connection:
        return connection.execute("SELECT * FROM score ORDER BY 1, 2, 3").fetchall()


def test_a_run_resumes_without_scoring_again(kept: Path) -> None:
    before = scores(kept / "run")
    sizes = "--pool 0 --queries 8 --candidates 6 --iterations 2 --epochs 1 --batch-size 4 --test-rows 0".split()
    models = "--model encoder --lm lm --device cpu --dtype float32".split()

    assert main(["train", "tasks", "--tasks", "questions", *models, *sizes, "--out", "run"]) == 0

    assert scores(kept / "run") == before
    assert (kept / "run" / "model" / "modules.json").is_file()
