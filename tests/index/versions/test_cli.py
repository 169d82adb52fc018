"""``udr index publish``, ``list``, ``diff`` and ``prune``, by exit code and output."""

import json
import re
import time
from pathlib import Path

import pytest

from tests.fakes import NOTES, write_collection, write_task
from tests.index.builds import build_index
from tests.index.versions.conftest import truncate, used, versions_in, write_leftovers
from tests.udr.cli.test_app import Run
from udr.store import read_current, verify


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


def test_list_shows_versions(run: Run, root: Path, names: list[str]) -> None:
    status, out, _ = run("index", "list", root, "--json")
    first, *others = json.loads(out)
    assert (status, [info["rows"] for info in others]) == (0, [30, 15])
    assert first == {
        "version": read_current(root),
        "current": True,
        "changed": "1970-01-04T00:00:00+00:00",
        "bytes": used(root / "versions" / names[2]),
        "encoder": "fake-hash",
        "rows": 45,
        "tasks": {"notes": 15, "questions": 15, "reviews": 15},
        "problem": None,
    }
    status, out, _ = run("index", "list", root)
    day, lines = time.strftime("%Y-%m-%d %H:%M", time.localtime(86_400 * 3)), out.splitlines()
    assert (status, len(lines)) == (0, 3)
    assert re.fullmatch(rf"\* {names[2]}  {day} +0\.\d MB  45 demonstrations of 3 tasks, fake-hash", lines[0])
    assert lines[2].startswith(f"  {names[0]}  ")

    (root / "CURRENT").unlink()
    (root / "versions" / names[0] / "manifest.json").unlink()
    status, out, _ = run("index", "list", root)
    assert (status, out.count("* "), out.count("demonstrations of 3 tasks, fake-hash")) == (0, 0, 2)
    assert "  unreadable: manifest.json: cannot be read (No such file or directory); the version is incomplete\n" in out
    assert out.endswith(f"no version is current; run: udr index publish {root} VERSION\n")


def test_publish_shows_both_versions(run: Run, root: Path, names: list[str]) -> None:
    old, _, new = names
    message = f"{root}: version {old} is now current; the previous one is {new}\n"
    assert run("index", "publish", root, old[:12]) == (0, message, "")
    assert run("index", "publish", root, old)[:2] == (0, f"{root}: version {old} is already current\n")
    status, out, _ = run("index", "publish", root, new, "--json")
    assert (status, json.loads(out)) == (0, {"version": new, "previous": old})


def test_diff_shows_differences(run: Run, root: Path, names: list[str], tmp_path: Path) -> None:
    status, out, _ = run("index", "diff", root, names[0], "CURRENT", "--json")
    diff = json.loads(out)
    assert (status, diff["old"], diff["new"], diff["differences"]) == (0, names[0], names[2], [])
    assert list(diff["tasks"]["notes"]) == ["definition", "added", "changed", "removed"]
    assert (len(diff["tasks"]["notes"]["added"]), diff["tasks"]["notes"]["removed"]) == (10, [])
    tasks, index = write_collection(tmp_path / "tasks"), tmp_path / "out"
    old = build_index(tasks, index).version
    write_task(tasks, {**NOTES, "output": "The mood: {target}"})
    rows = tasks / "mood/reviews/train.jsonl"
    lines = rows.read_text("utf-8").splitlines(keepends=True)
    rows.write_text("".join([lines[0].replace("kettle", "pan"), *lines[2:]]), "utf-8")
    new = build_index(tasks, index, names=("notes", "reviews")).version

    status, text, _ = run("index", "diff", index, old, new)

    first, second = (json.loads(line)["id"] for line in lines[:2])
    assert status == 0
    assert text.splitlines() == [
        f"{old} -> {new}",
        'families.topic: "topic" -> none',
        'tasks.notes.task.output: "Mood: {target}" -> "The mood: {target}"',
        "notes: 0 added, 0 changed, 0 removed, definition changed",
        "questions: 0 added, 0 changed, 24 removed, task removed",
        "  - q00, q01, q02, q03, q04 and 19 more",
        "reviews: 0 added, 1 changed, 1 removed",
        f"  ~ {first}",
        f"  - {second}",
    ]
    assert run("index", "diff", index, new, "CURRENT")[:2] == (0, f"{new} -> {new}\nno differences\n")


def test_prune_shows_what_it_removes(run: Run, root: Path, names: list[str]) -> None:
    leftovers = write_leftovers(root, names[0])
    prune = ["index", "prune", root, "--keep", 2]
    status, out, _ = run(*prune, "--dry-run", "--json")
    size = json.loads(out)["freed_bytes"]
    assert (status, json.loads(out)) == (
        0,
        {"dry_run": True, "removed": names[:1], "leftovers": leftovers, "kept": names[:0:-1], "freed_bytes": size},
    )
    summary = rf"{root}: 1 version and 6 leftovers, 0\.\d MB %s; 2 versions kept"
    lines = run(*prune, "--dry-run")[1].splitlines()
    assert lines[0].startswith(f"would remove version {names[0]}, 0.")
    assert re.fullmatch(summary % "would be freed", lines[-1])
    assert len(versions_in(root)) == 3
    status, out, _ = run(*prune)
    assert (status, len(out.splitlines())) == (0, 8)
    assert f"removed .building-{names[0]}, left by a killed command\n" in out
    assert re.fullmatch(summary % "freed", out.splitlines()[-1])
    assert versions_in(root) == set(names[1:]) and verify(root) == []


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        ("publish ROOT nope", 1, "no version 'nope'; the versions are: "),
        ("publish ROOT OLDEST", 3, "is damaged and was not published: demonstrations.sqlite: is truncated"),
        ("prune ROOT --keep 0", 2, "at least 1 version must be kept, found 0"),
        ("list NONE", 1, "no index here (no folder versions)"),
        ("diff NONE CURRENT CURRENT", 1, "no index here (no file CURRENT)"),
    ],
)
def test_errors_take_one_line_and_change_nothing(
    run: Run, root: Path, names: list[str], tmp_path: Path, command: str, status: int, message: str
) -> None:
    truncate(root, names[0])
    values = {"ROOT": root, "NONE": tmp_path / "none", "OLDEST": names[0]}

    result, out, err = run("index", *(values.get(word, word) for word in command.split()))

    assert (result, out, err.count("\n")) == (status, "", 1)
    assert err.startswith("udr: error: ") and message in err
    assert (read_current(root), len(versions_in(root))) == (names[2], 3) and not (tmp_path / "none").exists()
