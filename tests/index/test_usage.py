"""``udr index usage`` and ``outcomes``."""

import json
import shlex
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.fakes import HashEncoder
from udr import Retriever, Row
from udr.cli import main
from udr.errors import ArtifactError
from udr.store.usage import Count, PromptOutcome, ShownPrompt, TaskTotal, Told, Usage, UsageLevel
from udr_index.build import BuildConfig, build
from udr_index.versions.live import TaskUsage, compact, task_usage, usage


def told(ids: str, score: float) -> Told:
    return Told(ShownPrompt("p", "notes", tuple(ids), 0.0), PromptOutcome("p", score))


def test_what_counts_and_outcomes_say() -> None:
    targets = {id: "glad" if id < "c" else "sad" for id in "abcdef"}
    counts = {"a": Count(40, 40), "b": Count(20, 10), "c": Count(9, 5), "d": Count(1, 0), "gone": Count(99, 99)}
    outcomes = [told("ab", 0.0) for _ in range(5)] + [told("a", 1.0) for _ in range(5)] + [told("gone", 0.5)]
    found = task_usage("notes", targets, counts, TaskTotal(60, 7.0), outcomes, labelled=True)
    assert (found.rows, found.retrieved, found.prompts, found.outcomes, found.mean) == (6, 70, 60, 11, 0.5)
    assert found.never_shown == ["d", "e", "f"]
    assert found.always_shown == {"a": pytest.approx(2 / 3)}
    # (5 x 0 + 4 x 0.5) / (5 + 4); a has the mean.
    assert [(item.id, round(item.estimate, 6), item.outcomes) for item in found.bad] == [("b", 0.222222, 5)]
    # sad has 4 of 6 rows, and 5 of 55 that were shown.
    assert [(item.label, round(item.of_pool, 6), round(item.of_shown, 6)) for item in found.starved] == [
        ("sad", 0.666667, 0.090909)
    ]
    # Of 6 rows, 70 were retrieved; these never.
    assert found.remove == ["b", "e", "f"]


def test_little_traffic_says_little() -> None:
    found = task_usage("notes", {"a": "glad", "b": "sad"}, {"a": Count(9, 9)}, TaskTotal(9, 7.0), [], labelled=True)
    assert (found.always_shown, found.bad, found.starved, found.remove, found.mean) == ({}, [], [], [], None)
    assert found.never_shown == ["b"]
    empty = task_usage("notes", {}, {}, None, [], labelled=True)
    assert (empty.rows, empty.since, empty.never_shown, empty.starved) == (0, None, [], [])


def test_what_was_written_lately_had_no_chance(copy: Path) -> None:
    counts = {"a": Count(60, 0)}
    written = {"a": 0.0, "old": -100.0, "half": 50.0, "new": 90.0}
    found = task_usage(
        "notes",
        dict.fromkeys("a old built half new".split(), "glad"),
        counts,
        TaskTotal(9, 0.0),
        [],
        labelled=False,
        written=written,
        now=100.0,
    )
    # 60 were retrieved of 5 rows in 100 seconds, 54 of them in the first 90; 30 in half the time.
    assert found.remove == ["old", "built"]


@pytest.mark.parametrize("prompts", [0, 1])
def test_what_was_written_and_forgotten_is_as_new(copy: Path, prompts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day of counting, then a new row; also if nothing but retrieval was counted."""
    now, day = time.time(), 86_400.0
    monkeypatch.setattr(time, "time", lambda: now)
    with closing(Usage(copy)) as counted:
        counted.retrieved([("notes", "n00")] * 500)
        for _ in range(prompts):
            counted.prompt("notes", ["n00"])
    now += day
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        retriever.put("notes", Row(id="-5", input={"text": "a fine day"}, target="glad"))
    now += 60

    def notes() -> TaskUsage:
        return next(task for task in usage(copy) if task.task == "notes")

    for _ in range(2):
        found = notes()
        assert (found.rows, len(found.remove), "-5" in found.never_shown, "-5" in found.remove) == (21, 19, True, False)
        assert (found.since, found.prompts) == (now - day - 60, prompts)
        compact(copy, HashEncoder())
    # From then on, no row's time is known.
    compact(copy, HashEncoder(), forget=True)
    assert notes().remove == []
    compact(copy, HashEncoder())
    now += day
    assert "-5" in notes().remove and len(notes().remove) == 20


def test_the_printed_command_removes_ids_that_start_with_a_dash(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        retriever.put("notes", Row(id="-5", input={"text": "a fine day"}, target="glad"))
    with closing(Usage(copy, UsageLevel.COUNTS)) as counted:
        for score in [1.0] * 5 + [0.0] * 5:
            prompt = counted.prompt("notes", ["-5" if score == 0.0 else "n00"]) or ""
            counted.tell([PromptOutcome(prompt, score)], lambda task, owner: True)
    assert main(["index", "usage", str(copy)]) == 0
    command = capsys.readouterr().out.partition("remove those that are wrong by: ")[2].splitlines()[0]
    assert main(["index", "get", "--", str(copy), "notes", "-5"]) == 0
    assert main(shlex.split(command)[1:]) == 0
    assert "1 deleted" in capsys.readouterr().out


@pytest.fixture
def used(copy: Path) -> Path:
    """An index of whose prompts the outcomes are known."""
    with closing(Usage(copy, UsageLevel.INPUTS)) as usage:
        for number in range(30):
            shown = ["n00", f"n{number % 3:02}"][: 1 + (number % 3 > 0)]
            usage.retrieved([("notes", id) for id in ("n00", "n01", "n02") * 3])
            prompt_id = usage.prompt("notes", shown, {"text": f"day {number % 2}"}) or ""
            usage.tell([PromptOutcome(prompt_id, float(number % 3 != 2), "glad" if number else None)], lambda *_: True)
        usage.tell(
            [PromptOutcome(usage.prompt("notes", [], {"text": "x" * 9000}) or "", 0.5)], lambda task, owner: True
        )
    return copy


def test_usage_of_an_index(used: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "usage", str(used)]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = lines.index(next(line for line in lines if line.startswith("notes")))
    assert lines[start].startswith("notes: 20 demonstrations, retrieved 270 times; 31 prompts since 20")
    assert lines[start].endswith(", 31 outcomes, mean score 0.66")
    assert lines[start + 1 : start + 6] == [
        "  never shown: 17: n03, n04, n05, n06, n07 and 12 more",
        "  always shown: 1: n00 (97%)",
        "  bad outcomes: 1: n02 (0.19 of 10)",
        "  to review: 18: n02, n03, n04, n05, n06 and 13 more",
        f"  remove those that are wrong by: udr index delete -- {used} notes n02 n03 n04 n05 n06",
    ]
    assert main(["index", "usage", str(used), "--json"]) == 0
    tasks = json.loads(capsys.readouterr().out)["tasks"]
    assert tasks["notes"]["remove"] == ["n02", *(f"n{n:02}" for n in range(3, 20))]
    assert (tasks["questions"]["prompts"], tasks["questions"]["mean"]) == (0, None)


def test_outcomes_as_a_file(used: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "outcomes.jsonl"
    assert main(["index", "outcomes", str(used), "--out", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"{out}: 31 outcomes"
    assert printed[1].startswith("1 of them have no input, as it was not kept or is too long; keep inputs by: udr")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["score"] for line in lines[:4]] == [1.0, 1.0, 0.0, 1.0]
    first, last = lines[1], lines[-1]
    assert (first["task"], first["input"], first["demonstrations"], first["target"]) == (
        *("notes", {"text": "day 1"}, ["n00", "n01"], "glad"),
    )
    assert "input" not in last and "target" not in lines[0] and len(first["prompt_id"]) == 32
    assert main(["index", "outcomes", str(used), "--out", str(out)]) == 2
    assert f"{out} exists; name another file" in capsys.readouterr().err


def test_an_index_that_nobody_counted(collection: Path, tmp_path: Path) -> None:
    build(BuildConfig(tasks=collection, out=tmp_path / "index"), HashEncoder())
    with pytest.raises(ArtifactError, match="nothing of its use was kept; udr serve counts it"):
        usage(tmp_path / "index")
