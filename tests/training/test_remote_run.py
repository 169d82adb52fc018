"""Runs on remote stores, fsspec's memory and moto's S3: any machine goes on from the last stage that was uploaded."""

import json
import sqlite3
from pathlib import Path

import fsspec
import pytest

from tests.training.conftest import Machine, Udr, assert_refused
from udr.errors import ArtifactError, ConfigError, VerificationError
from udr.files import RemoteFolder
from udr.models import fingerprint
from udr_training.run_folder import CONTENTS, upload_copy, working_copy

pytestmark = pytest.mark.usefixtures("machine")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"memory://{tmp_path.name}/run"


def files(url: str) -> dict[str, tuple[str, int, str]]:
    """The files that a run has there: their names there, their sizes and hashes."""
    return dict(json.loads(fsspec.open(f"{url}/{CONTENTS}").open().read())["files"])


def computed(path: Path) -> int:
    """How many pairs were ever scored for a run."""
    with sqlite3.connect(path / "feedback.sqlite") as file:
        return int(file.execute("SELECT sum(pairs) FROM work").fetchone()[0])


def test_a_training_goes_on_where_another_machine_was_lost(
    machine: Machine,
    url: str,
    udr: Udr,
    tasks: Path,
    lm_folder: Path,
    encoder_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = (
        "--queries 8 --candidates 6 --iterations 2 --epochs 1 --batch-size 4 --set train.list_length=4 --test-rows 0"
    )
    command = ["train", tasks, "--lm", lm_folder, "--model", encoder_folder, *sizes.split(), "--out"]
    assert udr(*command, tmp_path / "here")[0] == 0
    replace, stages = RemoteFolder.replace, list[set[str]]()

    def failing(self: RemoteFolder, name: str, content: bytes, seen: bytes | None) -> None:
        if len(stages) == 5:
            raise ArtifactError(f"{self.url}: the store does not answer")
        replace(self, name, content, seen)
        stages.append(set(files(url)))

    monkeypatch.setattr(RemoteFolder, "replace", failing)
    assert_refused(udr(*command, url), 1, "the store does not answer")
    assert "feedback.sqlite" in stages[-1] and not any(name.startswith("model/") for name in stages[-1])
    monkeypatch.setattr(RemoteFolder, "replace", replace)
    machine("second")
    status, out, err = udr(*command, url)
    assert (status, out) == (0, f"{url}/model\n"), err
    copy = working_copy(Path(url))
    assert fingerprint(copy / "model") == fingerprint(tmp_path / "here" / "model")
    assert computed(copy) == computed(tmp_path / "here")
    assert {"manifest.json", "iteration-1/candidates.json", "model/model.safetensors"} <= files(url).keys()
    machine("third")
    assert json.loads(udr("feedback", "stats", url, "--json")[1])["pairs"] == computed(copy)
    stale = fsspec.filesystem("memory").find(url.removeprefix("memory:/"))
    named = {f"/{url.removeprefix('memory://')}/{entry[0]}" for entry in files(url).values()}
    assert {name for name in stale if not name.endswith(CONTENTS)} == named


@pytest.mark.slow
def test_s3_refuses_one_of_two_machines_too(machine: Machine, bucket: str) -> None:
    refuses_one_of_two(machine, f"{bucket}/run")


def test_of_two_machines_that_work_on_a_run_one_is_refused(machine: Machine, url: str) -> None:
    refuses_one_of_two(machine, url)


def refuses_one_of_two(machine: Machine, url: str) -> None:
    first = working_copy(Path(url))
    (first / "note").write_text("1")
    upload_copy(first)
    machine("second")
    second = working_copy(Path(url))
    assert (second / "note").read_text() == "1"
    (second / "note").write_text("2")
    upload_copy(second)
    (first / "note").write_text("3")
    with pytest.raises(ArtifactError, match=r"RUN\.json: somebody else replaced it meanwhile"):
        upload_copy(first)
    machine("first")
    assert (working_copy(Path(url)) / "note").read_text() == "2"
    machine("third")
    assert (working_copy(Path(url)) / "note").read_text() == "2"


def test_what_is_not_complete_stays_here_and_what_is_damaged_there(machine: Machine, url: str) -> None:
    run = working_copy(Path(url))
    for name in (
        "iteration-0/checkpoints/step",
        ".model.7-0123abcd/weights",
        ".lock",
        "feedback.sqlite-wal",
        "model/weights",
    ):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("whole")
    upload_copy(run)
    assert files(url).keys() == {"model/weights"}
    with fsspec.open(f"{url}/model/weights", "wb") as stream:
        stream.write(b"other")
    machine("second")
    with pytest.raises(VerificationError, match=r"run/model/weights: is damaged"):
        working_copy(Path(url))


def test_what_was_deleted_there_is_uploaded_again(url: str, caplog: pytest.LogCaptureFixture) -> None:
    run = working_copy(Path(url))
    for name in ("scores", "model/weights"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("1")
    upload_copy(run)
    (run / "scores").write_text("2")
    upload_copy(run)
    before = files(url)
    fsspec.filesystem("memory").rm(url.removeprefix("memory:/"), recursive=True)
    # Also with something new, which is uploaded by a condition.
    (run / "report").write_text("1")
    with pytest.raises(ArtifactError, match=r"RUN\.json: somebody else replaced it meanwhile"):
        upload_copy(run)
    assert working_copy(Path(url)) == run
    assert f"{url}: has no {CONTENTS} any more; its copy, {run}, is uploaded anew" in caplog.text
    upload_copy(run)
    assert files(url).items() > before.items()
    assert {name for name in RemoteFolder(url).files() if name != CONTENTS} == files(url).keys()
    caplog.clear()
    working_copy(Path(url))
    assert not caplog.text


def test_torchrun_needs_a_shared_folder(url: str, udr: Udr, tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0"), ("TORCHELASTIC_RUN_ID", "x")):
        monkeypatch.setenv(name, value)
    assert_refused(udr("train", tasks, "--out", url), 2, "need a run directory on a disk that they share")


@pytest.mark.parametrize(
    "command",
    [
        "tasks split URL",
        "tasks check URL --fix",
        "init TASKS/opinion/reviews/train.jsonl --input id --target target --out URL",
        "pool score TASKS --tasks reviews --by length --out URL",
        "pool curate TASKS --tasks reviews --scores none --out URL",
        "feedback score TASKS --out RUN --feedback URL",
        "index restore none URL",
    ],
)
def test_what_commands_write_on_this_machine_alone_is_refused_there(
    udr: Udr, tasks: Path, tmp_path: Path, url: str, command: str
) -> None:
    words = {"URL": url, "RUN": str(tmp_path / "run")}
    arguments = [words.get(word, word).replace("TASKS", str(tasks)) for word in command.split()]
    assert_refused(udr(*arguments), 2, f"{url} is on a remote store, where this command does not work; give a path")


def test_a_run_elsewhere_may_not_name_files_outside_itself(url: str, tmp_path: Path) -> None:
    content = json.dumps({"format": 1, "files": {"../x": ["x", 1, "00"]}})
    with fsspec.open(f"{url}/{CONTENTS}", "wb") as stream:
        stream.write(content.encode())
    with pytest.raises(ArtifactError, match="names a file outside its folder"):
        working_copy(Path(url))
    with fsspec.open(f"{url}/{CONTENTS}", "wb") as stream:
        stream.write(b'{"format": 9, "files": {}}')
    with pytest.raises((ArtifactError, ConfigError), match="format"):
        working_copy(Path(url))
