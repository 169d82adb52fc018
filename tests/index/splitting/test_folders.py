"""``udr tasks split``: rows move, and nothing else changes."""

import json
import stat
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.fakes import NOTES, write_task
from tests.tiny_models import save_encoder
from tests.udr.cli.test_app import Run
from udr.data import open_collection
from udr.types import Json


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


def rows(number: int = 40) -> list[Mapping[str, Json]]:
    return [
        {"id": f"{n:02}", "input": {"text": f"w{n} v{n}"}, "target": "glad" if n % 4 else "sad", "metadata": {"n": n}}
        for n in range(number)
    ]


def test_rows_move_to_a_test_split(run: Run, tmp_path: Path) -> None:
    folder = write_task(tmp_path, NOTES, train=rows())
    before = (folder / "train.jsonl").read_text("utf-8").splitlines()

    status, out, _ = run("tasks", "split", tmp_path)

    assert status == 0 and out.startswith("notes: 32 rows train, 8 test\n")
    train, test = (
        [json.loads(line) for line in (folder / f"{n}.jsonl").read_bytes().splitlines()] for n in ("train", "test")
    )
    assert sorted([*train, *test], key=lambda row: row["id"]) == [json.loads(line) for line in before]
    assert Counter(row["target"] for row in test) == {"glad": 6, "sad": 2}
    assert run("tasks", "check", tmp_path, "--strict")[0] == 0


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_what_is_split_off_a_private_file_is_private_and_a_link_stays(run: Run, tmp_path: Path, suffix: str) -> None:
    folder = write_task(tmp_path / "tasks", NOTES, train=rows())
    train, data = folder / "train.jsonl", tmp_path / "data"
    if suffix == ".csv":
        train.unlink()
        train = train.with_suffix(".csv")
        train.write_text("id,text,target\n" + "".join(f"{n},w{n} v{n},glad\n" for n in range(40)), "utf-8")
    train.rename(data).chmod(0o600)
    train.symlink_to(data)
    assert run("tasks", "split", tmp_path / "tasks")[0] == 0
    made = [folder / "train.jsonl", folder / "test.jsonl"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in made] == [0o600, 0o600]
    assert made[0].is_symlink() is (suffix == ".jsonl") and len(made[0].read_bytes().splitlines()) == 32


@pytest.mark.parametrize(("name", "problem"), [("train", "links to a read-only file"), ("test", "links to no file")])
def test_a_link_that_cannot_be_written_is_refused_before_rows_move(
    run: Run, tmp_path: Path, name: str, problem: str
) -> None:
    folder = write_task(tmp_path / "tasks", NOTES, train=rows())
    path, other = folder / f"{name}.jsonl", tmp_path / "other"
    if name == "train":
        path.rename(other).chmod(0o444)
    path.symlink_to(other)
    status, _, err = run("tasks", "split", tmp_path / "tasks")
    assert status == 1 and f"{name}.jsonl: {problem}" in err
    assert other.exists() is (name == "train") and len((folder / "train.jsonl").read_bytes().splitlines()) == 40
    assert (folder / "test.jsonl").is_file() is False


def test_only_tasks_without_a_test_split_are_split(run: Run, tmp_path: Path) -> None:
    done = write_task(tmp_path, NOTES, train=rows()[:30], test=rows()[30:])
    before = {path.name: path.read_bytes() for path in done.iterdir()}
    questions: list[Mapping[str, Json]] = [{**row, "input": row["input"]} for row in rows()]
    other = {**NOTES, "name": "others"}
    write_task(tmp_path, other, train=questions)

    status, out, _ = run("tasks", "split", tmp_path, "--test-rows", 4)

    assert (status, out[:29]) == (0, "others: 36 rows train, 4 test")
    assert {path.name: path.read_bytes() for path in done.iterdir()} == before
    status, _, err = run("tasks", "split", tmp_path)
    assert status == 2 and "every task has a test split already" in err
    status, _, err = run("tasks", "split", tmp_path, "--tasks", "notes")
    assert status == 2 and f"{done / 'test.jsonl'}: exists with 10 rows" in err and "give --test-rows above that" in err


def test_more_rows_are_held_out_of_a_task_that_is_split(run: Run, tmp_path: Path) -> None:
    write_task(tmp_path, NOTES, train=rows(700)[100:], test=rows(700)[:100])
    _, out, _ = run("tasks", "split", tmp_path, "--tasks", "notes", "--test-rows", 200)
    first, few, anew = out.splitlines()
    assert first == "notes: 500 rows train, 200 test"
    assert few.endswith(f"takes about 300; udr tasks split {tmp_path} --tasks notes --test-rows 300")
    assert anew == "notes: build its index and train its runs anew, since these know rows that test now"
    test = [row.id for row in open_collection(tmp_path).tasks["notes"].rows("test")]
    assert test[:100] == [row["id"] for row in rows(700)[:100]] and len(set(test)) == 200
    assert run("tasks", "check", tmp_path, "--strict")[0] == 0


def test_a_csv_split_becomes_jsonl_and_is_kept(run: Run, tmp_path: Path) -> None:
    folder = write_task(tmp_path, NOTES)
    text = "id,text,target\n" + "".join(f"{n},w{n} v{n},{'glad' if n % 2 else 'sad'}\n" for n in range(20))
    (folder / "train.csv").write_text(text, "utf-8")

    status, out, _ = run("tasks", "split", tmp_path)

    assert status == 0 and "; the file before is unsplit.csv\n" in out
    assert (folder / "unsplit.csv").read_text("utf-8") == text
    assert sorted(path.name for path in folder.iterdir()) == "task.toml test.jsonl train.jsonl unsplit.csv".split()
    splits = open_collection(tmp_path).tasks["notes"]
    assert [len(splits.rows(name)) for name in ("train", "test")] == [16, 4]


def test_what_cannot_be_split_stays_as_it_is(run: Run, tmp_path: Path) -> None:
    folder = write_task(tmp_path, NOTES, train=rows(3))
    before = (folder / "train.jsonl").read_bytes()
    status, _, err = run("tasks", "split", tmp_path)
    assert status == 2 and "a share of 0.2 of 3 rows is no row; add rows, or give --test-rows" in err
    (folder / "train.jsonl").write_bytes(before + b"{}\n")
    status, _, err = run("tasks", "split", tmp_path)
    assert status == 1 and "train.jsonl:4" in err
    assert [path.name for path in folder.glob("*.jsonl")] == ["train.jsonl"]


def test_a_task_with_too_few_rows_does_not_stop_the_others(run: Run, tmp_path: Path) -> None:
    write_task(tmp_path, {**NOTES, "name": "few"}, train=rows(3))
    write_task(tmp_path, NOTES, train=rows())

    status, out, err = run("tasks", "split", tmp_path)

    assert status == 4 and "1 of 2 tasks are not split: few" in err
    assert [line.split(":")[:2] for line in out.splitlines()] == [
        ["few", " not split"],
        ["notes", " 32 rows train, 8 test"],
        [
            "notes",
            " 8 test rows tell only gains of about 31 points or more from chance; to see a gain of the usual size, "
            "about 5 points, takes about 300; that takes more rows than this task has",
        ],
    ]


def test_an_encoder_keeps_what_it_finds_near_on_one_side(run: Run, tmp_path: Path) -> None:
    # The random encoder finds all inputs alike, so none can be held out.
    write_task(tmp_path / "tasks", NOTES, train=rows())
    model = save_encoder(tmp_path / "model")
    status, _, err = run("tasks", "split", tmp_path / "tasks", "--model", model, "--device", "cpu")
    assert status == 2 and "40 rows make 1 group of them, the largest of 40; add rows that are worded" in err
