"""``udr tasks check --fix``: what is wrong beyond doubt moves to ``removed.jsonl``; the rest stays, byte for byte."""

import json
import stat
from pathlib import Path

import pytest

from tests.fakes import NOTES, write_task
from tests.index.quality.conftest import notes
from tests.udr.cli.test_app import Run
from udr.data import open_collection
from udr.errors import DataError
from udr_index.quality import fix


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


def line(id: str, text: str, target: str = "glad", end: str = "\n") -> str:
    # Other spaces than ours, which must stay.
    return json.dumps({"id": id, "input": {"text": text}, "target": target}, separators=(" , ", " : ")) + end


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = write_task(tmp_path / "tasks", NOTES)
    train = [
        line("a", "one", end="\r\n"),
        line("b", "ONE!"),
        "\n",
        line("c", "two", "sad"),
        line("d", "two"),
        line("e", " "),
        line("f", "three"),
        line("g", "four"),
        "not JSON\n",
        line("h", "five", end=""),
    ]
    (folder / "train.jsonl").write_text("".join(train), "utf-8", newline="")
    (folder / "validation.jsonl").write_text(line("v", "Four.") + line("w", "six"), "utf-8")
    (folder / "test.jsonl").write_text(line("t", "three") + line("u", "SIX") + line("x", "seven", "sad"), "utf-8")
    return folder


def test_duplicates_leaks_and_empty_rows_move(run: Run, folder: Path) -> None:
    status, out, _ = run("tasks", "check", folder, "--fix")

    assert status == 3 and "not JSON" in out
    assert out.splitlines()[:2] == [
        "notes: moved from train.jsonl to removed.jsonl: 1 row with input and target of an earlier row, 1 row with no "
        "text in any input field, 1 row with the input of a row of test, 1 row with the input of a row of validation",
        "notes: moved from validation.jsonl to removed.jsonl: 1 row with the input of a row of test",
    ]
    train = line("a", "one", end="\r\n") + "\n" + line("c", "two", "sad") + line("d", "two") + "not JSON\n"
    assert (folder / "train.jsonl").read_bytes().decode() == train + line("h", "five", end="")
    assert (folder / "validation.jsonl").read_text("utf-8") == line("v", "Four.")
    removed = [json.loads(record) for record in (folder / "removed.jsonl").read_bytes().splitlines()]
    assert [(row["split"], row["line"], row["id"]) for row in removed] == [
        *(("train", 2, "b"), ("train", 6, "e"), ("train", 7, "f"), ("train", 8, "g")),
        ("validation", 2, "w"),
    ]
    assert removed[0]["why"] == "input and target of an earlier row" and removed[0]["input"] == {"text": "ONE!"}


def test_files_keep_their_permissions_and_links(folder: Path, tmp_path: Path) -> None:
    train, data = folder / "train.jsonl", tmp_path / "data.jsonl"
    train.rename(data)
    train.symlink_to(data)
    data.chmod(0o600)
    data.write_text(data.read_text("utf-8").replace("not JSON\n", ""), "utf-8")
    before = data.read_bytes()
    fix(open_collection(tmp_path / "tasks").tasks["notes"])
    assert train.is_symlink() and len(data.read_bytes()) < len(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (data, folder / "removed.jsonl")] == [0o600, 0o600]


@pytest.mark.parametrize("name", ["train", "validation"])
def test_a_link_to_a_read_only_file_is_refused_before_anything_is_written(
    run: Run, folder: Path, tmp_path: Path, name: str
) -> None:
    path, cached = folder / f"{name}.jsonl", tmp_path / "cached"
    path.rename(cached).chmod(0o444)
    path.symlink_to(cached)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    status, _, err = run("tasks", "check", folder, "--fix")
    assert status == 1 and f"{name}.jsonl: links to a read-only file; put a copy in the link's place" in err
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("exists", [True, False])
def test_removed_rows_go_to_no_file_elsewhere(run: Run, folder: Path, tmp_path: Path, exists: bool) -> None:
    other, before = tmp_path / "other", (folder / "train.jsonl").read_bytes()
    if exists:
        other.write_bytes(b"mine")
    (folder / "removed.jsonl").symlink_to(other)
    status, _, err = run("tasks", "check", folder, "--fix")
    assert status == 1 and "removed.jsonl: is a link, through which no removed row is kept; remove it" in err
    assert (folder / "train.jsonl").read_bytes() == before
    assert other.read_bytes() == b"mine" if exists else not other.exists()


def test_rows_that_differ_in_an_operator_stay(tmp_path: Path) -> None:
    folder = write_task(tmp_path / "tasks", NOTES)
    splits = {"train": ["7 - 5", "7 / 5", "C"], "validation": ["7 * 5", "C#"], "test": ["75", "7.5", "7 - 5."]}
    for split, texts in splits.items():
        lines = [line(f"{split}{number}", text) for number, text in enumerate(texts)]
        (folder / f"{split}.jsonl").write_text("".join(lines), "utf-8")
    fix(open_collection(tmp_path / "tasks").tasks["notes"])
    left = [row.input["text"] for row in open_collection(tmp_path / "tasks").tasks["notes"].rows("train")]
    assert left == ["7 / 5", "C"]


def test_a_fixed_folder_passes_and_is_not_changed_again(run: Run, folder: Path) -> None:
    path = folder / "train.jsonl"
    path.write_bytes(path.read_bytes().replace(b"not JSON\n", b""))
    assert run("tasks", "check", folder)[0] == 3

    status, out, _ = run("tasks", "check", folder, "--fix", "--json")

    assert status == 0 and len(json.loads(out)["fixed"]) == 2
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert json.loads(run("tasks", "check", folder, "--fix", "--json")[1])["fixed"] == []
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_file_that_is_not_jsonl_stays(run: Run, tmp_path: Path) -> None:
    folder = write_task(tmp_path, NOTES)
    text = "id,text,target\n1,one,glad\n2,one,glad\n3,two,sad\n"
    (folder / "train.csv").write_text(text, "utf-8")

    status, out, _ = run("tasks", "check", tmp_path, "--fix")

    assert status == 3 and "train.csv is not JSONL and stays as it is: 1 row with input and target of an earlier" in out
    assert (folder / "train.csv").read_text("utf-8") == text and not (folder / "removed.jsonl").exists()


def test_a_split_that_would_be_empty_is_refused(tmp_path: Path) -> None:
    write_task(tmp_path, NOTES, train=notes("a"), test=[*notes("A", first=5), *notes("b", target="sad", first=6)])
    with pytest.raises(DataError, match=r"train\.jsonl: would keep no row"):
        fix(open_collection(tmp_path).tasks["notes"])
