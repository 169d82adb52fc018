"""``udr tasks``: what people see, line by line, and that it is the same every time."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.fakes import NOTES, QUESTIONS, write_collection, write_task
from tests.index.quality.test_check import found, notes
from tests.tiny_models import byte_tokenizer, save_encoder
from udr.cli import main
from udr.types import Json
from udr_index.quality import Finding, Kind


def test_a_line_names_three_groups_of_three_rows_and_counts_the_others() -> None:
    groups = (("a", "b", "c", "d", "e"), ("f", "g"), ("h", "i"), ("j", "k"), ("l", "m"))
    finding = Finding(task="t", split="train", kind=Kind.DUPLICATE, message="copies", count=9, groups=groups)

    assert str(finding) == "t/train: error: duplicate: copies: a = b = c = … (2 more), f = g, h = i, … (2 more)"
    assert finding.to_json()["groups"] == [list(group) for group in groups]


def test_an_id_with_a_line_break_stays_on_its_line() -> None:
    finding = Finding(task="t", split=None, kind=Kind.TOO_LONG, message="long", groups=(("a\nb",),))
    assert str(finding) == "t: error: too_long: long: 'a\\nb'"


def test_two_checks_print_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_collection(tmp_path)
    printed = []
    for _ in range(2):
        assert main(["tasks", "check", str(root), "--json"]) == 3
        printed.append(capsys.readouterr().out)

    assert printed[0] == printed[1]
    report = json.loads(printed[0])
    assert report["errors"] == 2 and set(report) == {"passed", "tasks", "rows", "errors", "warnings", "findings"}
    assert [(one["task"], one["split"], one["kind"], one["count"]) for one in report["findings"]] == [
        ("questions", "test", "leak", 4),
        ("reviews", "train", "duplicate", 9),
    ]
    assert report["findings"][0]["against"] == "train" and report["findings"][0]["severity"] == "error"


def test_rows_over_a_window_that_a_flag_gives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[Mapping[str, Json]] = [
        {"id": target, "input": {"text": f"a {target} day"}, "target": target} for target in ("glad", "sad")
    ]
    write_task(tmp_path / "tasks", NOTES, train=rows)
    byte_tokenizer().save_pretrained(tmp_path / "lm")
    check = ["tasks", "check", str(tmp_path / "tasks"), "--lm", str(tmp_path / "lm" / "tokenizer.json")]
    # A byte a token, and BOS.
    longest = 1 + len("Give the mood of the note.\n\nNote: a glad day\nMood: glad")

    assert main([*check, "--window", str(longest)]) == 0
    assert main([*check, "--window", str(longest - 1)]) == 3
    assert f"train: error: too_long: 1 of 2 rows has more tokens than the window of {longest - 1}" in (
        capsys.readouterr().out
    )
    assert main(check) == 2
    assert "no config.json tells how many tokens it reads at once; give them by --window" in capsys.readouterr().err


LABELS = ["no", "south", "east", "west", "up", "down"]


def test_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ways = {**QUESTIONS, "name": "ways", "input": "{a} {b}", "labels": LABELS}
    rows: list[Mapping[str, Json]] = [
        {"id": f"{n}", "input": {"b": "one two three", "a": "" if n < 3 else "x"}, "target": label}
        for n, label in enumerate([*LABELS, "up"])
    ]
    pick: Mapping[str, Json] = {**QUESTIONS, "name": "pick", "kind": "multiple_choice"}
    chosen: list[Mapping[str, Json]] = [
        {"id": f"{n}", "input": {"question": "q " * n}, "target": "a b", "choices": ["a b", "c", "d"][: n + 1]}
        for n in (1, 2)
    ]
    write_task(tmp_path, ways, train=rows, test=rows[:6])
    write_task(tmp_path, {key: value for key, value in pick.items() if key != "labels"}, train=chosen)

    assert main(["tasks", "stats", str(tmp_path)]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "                        input, words          target, words",
        "task  split  rows  median  95 %  longest  median  95 %  longest  fields              labels or choices",
        "pick  train     2       2     3        3       2     2        2  question            2 to 3 choices",
        "ways  train     7       4     4        4       1     1        1  a (57 % filled), b  6 labels, "
        "from up 29 % to no 14 %",
        "ways  test      6       3     4        4       1     1        1  a (50 % filled), b  6 labels, 17 % each",
    ]


def test_statistics_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row: Mapping[str, Json] = {"id": "1", "input": {"text": "a b", "hint": None}, "target": "sad"}
    write_task(tmp_path, NOTES, train=[row])

    assert main(["tasks", "stats", str(tmp_path), "--json"]) == 0

    assert json.loads(capsys.readouterr().out) == {
        "unit": "words",
        "splits": [
            {
                "task": "notes",
                "family": "mood",
                "kind": "classification",
                "split": "train",
                "rows": 1,
                "fields": {"text": 1, "hint": 0},
                "input": {"median": 3, "percentile_95": 3, "longest": 3},
                "target": {"median": 1, "percentile_95": 1, "longest": 1},
                "labels": {"glad": {"rows": 0, "share": 0.0}, "sad": {"rows": 1, "share": 1.0}},
                "choices": None,
            }
        ],
    }


def test_help_and_a_check_without_models_load_nothing_heavy(collection: Path, tmp_path: Path) -> None:
    code = f"""
import sys
from udr import cli
cli.main(["tasks", "check", "--help"]), cli.main(["tasks", "check", {str(collection)!r}])
print([name for name in ("torch", "faiss", "sentence_transformers", "tokenizers") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_check_prints_a_line_a_finding_and_exits_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_task(tmp_path, NOTES, train=[*notes("a", "A"), *notes("b", target="sad", first=2)])

    assert main(["tasks", "check", str(tmp_path)]) == 3
    out, err = capsys.readouterr()
    assert out.splitlines() == [str(one) for one in found(tmp_path).findings]
    assert err == f"udr: error: {tmp_path}: 1 error, 0 warnings in 1 task, 3 rows\n"
    assert main(["tasks", "check", str(tmp_path), "--json"]) == 3
    printed = json.loads(capsys.readouterr().out)
    assert (printed["passed"], printed["errors"], printed["findings"][0]["groups"]) == (False, 1, [["n0", "n1"]])


def test_warnings_pass_unless_they_are_to_be_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_task(tmp_path, NOTES, train=notes("a", "b"))

    assert main(["tasks", "check", str(tmp_path)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "warning: missing_label" in out[0] and out[1] == f"{tmp_path}: 0 errors, 1 warning in 1 task, 2 rows"
    assert main(["tasks", "check", str(tmp_path), "--strict"]) == 3


def test_check_loads_the_encoder_that_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_task(tmp_path / "tasks", NOTES, train=[*notes("a b", "b  a"), *notes("zzzzzz", target="sad", first=2)])
    model = save_encoder(tmp_path / "model")
    assert (
        main(["tasks", "check", str(tmp_path / "tasks"), "--model", str(model), "--near", "0.01", "--device", "cpu"])
        == 0
    )
    assert "near_duplicate" in capsys.readouterr().out


def test_stats_prints_a_table_or_json_and_tells_of_what_it_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_collection(tmp_path)

    assert main(["tasks", "stats", str(tmp_path)]) == 0
    above, head, *lines = capsys.readouterr().out.splitlines()
    assert above.split() == ["input,", "words", "target,", "words"] and head.startswith("task")
    assert [line.split()[:3] for line in lines] == [
        ["notes", "train", "20"],
        ["questions", "train", "24"],
        ["questions", "test", "4"],
        ["reviews", "train", "18"],
    ]
    assert "place 33 %, person 33 %, number 33 %" in lines[1]
    assert main(["tasks", "stats", str(tmp_path), "--tasks", "notes", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["unit"], printed["splits"][0]["rows"]) == ("words", 20)

    (tmp_path / "mood/notes/train.jsonl").write_text("{}\n", "utf-8")
    assert main(["tasks", "stats", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 5 and "left out what cannot be read: " in err
    assert main(["tasks", "stats", str(tmp_path), "--tasks", ","]) == 2
    assert "a list of names, separated by commas" in capsys.readouterr().err
