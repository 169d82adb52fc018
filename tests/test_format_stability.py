"""This release reads an earlier one's files: an index, and a run that was interrupted in its second training."""

import json
import shutil
import sqlite3
import tomllib
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import HashEncoder
from udr import Retriever
from udr.cli import main
from udr.data import formatting
from udr.errors import ArtifactError, ModelError, VerificationError
from udr.integrations import Demos, Selector
from udr.models import RECORD, RECORD_FORMAT, Description, SentenceEncoder
from udr.search import LOWER, RULE
from udr.store import MANIFEST, open_version, read_settings, seal, verify, write_weights
from udr_index.build import BuildConfig, build
from udr_training import RUN_FORMAT, RunFolder

KEPT = Path(__file__).parent / "fixtures" / "format_4"
SIZES = "--pool 0 --queries 8 --candidates 6 --epochs 1 --batch-size 4 --test-rows 0".split()
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
    assert build(BuildConfig(tasks=EXAMPLES, out=tmp_path, bm25=False), HashEncoder()).version == "45c4a485fae5c90b"


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
    models = "--model encoder --lm lm --device cpu --dtype float32".split()

    assert main(["train", "tasks", "--tasks", "questions", *models, *SIZES, "--iterations", "2", "--out", "run"]) == 0

    assert scores(kept / "run") == before
    assert (kept / "run" / "model" / "modules.json").is_file()


def edited(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a file of JSON, and seal it again if it was sealed."""
    keys = json.loads(path.read_bytes())
    sealed = keys.pop("sha256", None) is not None
    change(keys)
    path.write_bytes(seal(keys) if sealed else json.dumps(keys).encode())


def of_format(number: int | None) -> Callable[[dict[str, Any]], None]:
    def change(keys: dict[str, Any]) -> None:
        keys.pop("format", None)
        if number is not None:
            keys["format"] = number

    return change


NEWER, OTHER = "install the version of udr that made it, or run: ", "run: "


@pytest.mark.parametrize(("number", "advice"), [(99, NEWER), (None, OTHER), (0, OTHER)])
def test_an_index_of_another_format_is_refused_with_the_command_that_makes_it_again(
    kept: Path, number: int | None, advice: str
) -> None:
    edited(next(kept.glob(f"index/versions/*/{MANIFEST}")), of_format(number))
    found = 1 if number is None else number
    message = f"the index has format {found}, but this udr reads formats 4 to 5; {advice}udr index build"
    with pytest.raises(ArtifactError, match=message):
        open_version(kept / "index")


def test_a_run_its_model_and_its_scores_have_formats(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunFolder(kept / "run")
    # Files from before they had a number are of format 1.
    assert "format" not in run.sources and RUN_FORMAT == 1
    edited(kept / "run" / "sources.json", of_format(2))
    with pytest.raises(ArtifactError, match=r"has format 2, but this udr reads format 1; .* run: udr train, or udr f"):
        _ = run.sources
    edited(kept / "run" / "sources.json", of_format(1))

    model = kept / "run" / "iteration-0" / "model"
    SentenceEncoder.load(str(model), "cpu")
    edited(model / RECORD, of_format(RECORD_FORMAT + 1))
    with pytest.raises(ModelError, match=r"udr\.json has format 2, but this udr reads format 1; .* run: udr train"):
        SentenceEncoder.load(str(model), "cpu")

    with closing(sqlite3.connect(kept / "run" / "feedback.sqlite")) as connection:
        connection.execute("PRAGMA user_version=1")
    models = "--model encoder --lm lm --device cpu --dtype float32".split()
    assert main(["train", "tasks", "--tasks", "questions", *models, *SIZES, "--iterations", "2", "--out", "run"]) == 1
    refusal = "run/feedback.sqlite has format 1, but this udr reads format 2; run: udr feedback score, with another "
    assert refusal in capsys.readouterr().err


def test_what_this_release_writes_has_a_format(kept: Path) -> None:
    """All that is read again: a run and its model, an index with its settings and its export, a program."""
    models = "--model encoder --lm lm --device cpu --dtype float32".split()
    assert main(["train", "tasks", "--tasks", "questions", *models, *SIZES, "--iterations", "1", "--out", "new"]) == 0
    for name in ("new/sources.json", "new/manifest.json", "new/model/udr.json"):
        assert json.loads((kept / name).read_bytes())["format"] == 1, name
    assert main(["index", "build", "tasks", "--model", "new/model", "--out", "fresh"]) == 0
    version = open_version(kept / "fresh")
    assert json.loads((version.path / MANIFEST).read_bytes())["format"] == 4
    write_weights(version.path, version.manifest, {})
    assert json.loads((version.path / "search.json").read_bytes())["format"] == 1
    edited(version.path / "search.json", of_format(7))
    with pytest.raises(
        VerificationError, match=r"search\.json has format 7, but this udr reads format 1; .*udr index bench"
    ):
        read_settings(version.path, version.manifest)
    (version.path / "search.json").unlink()

    edited(version.path / "encoder" / "encoder.json", lambda keys: keys.update(version=99))
    with pytest.raises(ModelError, match=r"the export has format 99, but this udr reads format \d; .*export-encoder"):
        Description.read(version.path / "encoder")

    with Retriever.open(kept / "index", encoder=HashEncoder()) as retriever:
        program = Demos(
            Selector(source=retriever, task="questions", k=2, order="nearest_last", options={}), None, "answer"
        ).to_json()
        assert program["format"] == 1
        with pytest.raises(ArtifactError, match="the saved program has format 2"):
            Demos.from_json({**program, "format": 2}, retriever)


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
    assert "version" not in project["project"] and project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"] == {"version": {"attr": "udr.__version__"}}
