"""``udr index publish``, ``list``, ``diff`` and ``prune``, by exit code and output."""

import json
import re
import time
from pathlib import Path

import pytest

from tests.fakes import NOTES, HashEncoder, write_collection, write_task
from tests.index.versions.test_catalog import leave, spoil, there, used, write_history
from tests.udr.cli.test_app import Run
from udr.store import read_current, verify
from udr_index.build import BuildConfig, build


@pytest.fixture
def root(collection: Path, tmp_path: Path) -> Path:
    write_history(tmp_path / "index", collection)
    return tmp_path / "index"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


def test_versions_are_listed_published_compared_and_pruned(run: Run, root: Path) -> None:
    status, out, _ = run("index", "list", root, "--json")
    infos = json.loads(out)
    names = [info["version"] for info in infos]
    assert status == 0
    assert infos[0] == {
        "version": read_current(root),
        "current": True,
        "changed": "1970-01-04T00:00:00+00:00",
        "bytes": used(root / "versions" / names[0]),
        "encoder": "fake-hash",
        "rows": 45,
        "tasks": {"notes": 15, "questions": 15, "reviews": 15},
        "problem": None,
    }
    assert [info["rows"] for info in infos] == [45, 30, 15]

    status, out, _ = run("index", "list", root)
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(86_400 * 3))
    lines = out.splitlines()
    assert (status, len(lines)) == (0, 3)
    assert re.fullmatch(rf"\* {names[0]}  {day} +0\.\d MB  45 demonstrations of 3 tasks, fake-hash", lines[0])
    assert lines[2].startswith(f"  {names[2]}  ")

    assert run("index", "publish", root, names[2][:12]) == (
        0,
        f"{root}: version {names[2]} is current now, before it was {names[0]}\n",
        "",
    )
    assert run("index", "publish", root, names[2])[:2] == (0, f"{root}: version {names[2]} is current already\n")
    status, out, _ = run("index", "publish", root, names[0], "--json")
    assert (status, json.loads(out)) == (0, {"version": names[0], "previous": names[2]})

    status, out, _ = run("index", "diff", root, names[2], "CURRENT", "--json")
    found = json.loads(out)
    assert (status, found["old"], found["new"], found["differences"]) == (0, names[2], names[0], [])
    assert {kind: len(ids) for kind, ids in found["tasks"]["notes"].items() if kind != "definition"} == {
        "added": 10,
        "changed": 0,
        "removed": 0,
    }
    status, out, _ = run("index", "diff", root, names[2], names[0])
    lines = out.splitlines()
    assert (status, len(lines), lines[0]) == (0, 7, f"{names[2]} -> {names[0]}")
    assert lines[1] == "notes: 10 added, 0 changed, 0 removed"
    assert lines[2] == f"  + {', '.join(found['tasks']['notes']['added'][:5])} and 5 more"

    left = leave(root, names[2])
    status, out, _ = run("index", "prune", root, "--keep", 2, "--dry-run", "--json")
    told = json.loads(out)
    assert status == 0
    assert told == {
        "dry_run": True,
        "removed": [names[2]],
        "leftovers": left,
        "kept": names[:2],
        "freed_bytes": told["freed_bytes"],
    }
    status, out, _ = run("index", "prune", root, "--keep", 2, "--dry-run")
    assert out.splitlines()[0].startswith(f"would remove version {names[2]}, 0.")
    assert re.fullmatch(
        rf"{root}: 1 version and 6 leftovers, 0\.\d MB would be freed; 2 versions kept", out.splitlines()[-1]
    )
    assert len(there(root)) == 3
    status, out, _ = run("index", "prune", root, "--keep", 2)
    lines = out.splitlines()
    assert (status, len(lines)) == (0, 8)
    assert f"removed .building-{names[2]}, left by a command that was killed" in lines
    assert re.fullmatch(rf"{root}: 1 version and 6 leftovers, 0\.\d MB freed; 2 versions kept", lines[-1])
    assert there(root) == set(names[:2])
    status, out, _ = run("index", "prune", root, "--keep", 2, "--json")
    assert (status, json.loads(out)["removed"], json.loads(out)["freed_bytes"]) == (0, [], 0)
    assert verify(root) == []


def test_diff_says_what_differs_and_what_does_not(run: Run, tmp_path: Path) -> None:
    tasks, out = write_collection(tmp_path / "tasks"), tmp_path / "index"
    old = build(BuildConfig(tasks=tasks, out=out), HashEncoder()).version
    write_task(tasks, {**NOTES, "output": "The mood: {target}"})
    rows = tasks / "mood/reviews/train.jsonl"
    lines = rows.read_text("utf-8").splitlines(keepends=True)
    rows.write_text("".join([lines[0].replace("kettle", "pan"), *lines[2:]]), "utf-8")
    new = build(BuildConfig(tasks=tasks, out=out, names=("notes", "reviews")), HashEncoder()).version

    status, text, _ = run("index", "diff", out, old, new)

    first, second = (json.loads(line)["id"] for line in lines[:2])
    assert status == 0
    assert text.splitlines() == [
        f"{old} -> {new}",
        'families.topic: "topic" -> none',
        'tasks.notes.task.output: "Mood: {target}" -> "The mood: {target}"',
        "notes: 0 added, 0 changed, 0 removed, defined otherwise",
        "questions: 0 added, 0 changed, 24 removed, gone",
        "  - q00, q01, q02, q03, q04 and 19 more",
        "reviews: 0 added, 1 changed, 1 removed",
        f"  ~ {first}",
        f"  - {second}",
    ]
    assert run("index", "diff", out, new, "CURRENT")[:2] == (0, f"{new} -> {new}\nnothing differs\n")


def test_list_tells_of_what_cannot_be_read_and_that_none_is_current(run: Run, root: Path) -> None:
    (root / "CURRENT").unlink()
    next(root.glob("versions/*/manifest.json")).unlink()

    status, out, _ = run("index", "list", root)

    assert (status, out.count("* "), out.count("demonstrations of 3 tasks, fake-hash")) == (0, 0, 2)
    assert "  unreadable: manifest.json: cannot be read (No such file or directory); the version is incomplete\n" in out
    assert out.endswith(f"no version is current; run: udr index publish {root} VERSION\n")
    status, out, _ = run("index", "list", root, "--json")
    assert [info["problem"] is None for info in json.loads(out)].count(False) == 1


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["publish", "ROOT", "nope"], 1, "no version 'nope'; there are: "),
        (["publish", "ROOT", "OLDEST"], 3, "is damaged and was not published: demonstrations.sqlite: is truncated"),
        (["diff", "ROOT", "CURRENT", "nope"], 1, "no version 'nope'; there are: "),
        (["prune", "ROOT", "--keep", "0"], 2, "at least 1 version must be kept, found 0"),
        (["list", "NONE"], 1, "no index here, there is no folder versions"),
        (["publish", "NONE", "CURRENT"], 1, "no index here, there is no folder versions"),
        (["diff", "NONE", "CURRENT", "CURRENT"], 1, "no index here, there is no CURRENT file"),
        (["prune", "NONE", "--keep", "1"], 1, "no index here, there is no folder versions"),
    ],
)
def test_a_mistake_gets_one_line_and_changes_nothing(
    run: Run, root: Path, tmp_path: Path, arguments: list[str], status: int, message: str
) -> None:
    current = read_current(root)
    oldest = min((root / "versions").iterdir(), key=lambda path: (path / "manifest.json").stat().st_mtime)
    spoil(root, oldest.name)
    names = {"ROOT": str(root), "NONE": str(tmp_path / "none"), "OLDEST": oldest.name}

    found, out, err = run("index", *(names.get(argument, argument) for argument in arguments))

    assert (found, out, err.count("\n")) == (status, "", 1)
    assert err.startswith("udr: error: ") and message in err
    assert (read_current(root), len(there(root))) == (current, 3)
    assert not (tmp_path / "none").exists()
