"""``udr tasks``: the output, line by line, and the exit codes."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.fakes import NOTES, QUESTIONS, CountingLM, counting, install_entry_point, write_collection, write_task
from tests.index.quality.conftest import notes, report
from tests.tiny_models import byte_tokenizer, save_encoder
from tests.udr.cli.test_app import Run
from udr.data import measure_text
from udr.models import LM_GROUP, coherence
from udr.types import Json
from udr_index.quality import Finding, Kind


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


def test_line_names_three_groups_of_three_rows() -> None:
    groups = (("a", "b", "c", "d", "e"), ("f", "g"), ("h", "i"), ("j", "k"), ("l", "m"))
    finding = Finding(task="t", split="train", kind=Kind.DUPLICATE, message="copies", count=9, groups=groups)

    assert str(finding) == "t/train: error: duplicate: copies: a = b = c = … (2 more), f = g, h = i, … (2 more)"
    assert finding.to_json()["groups"] == groups
    finding = Finding(task="t", split=None, kind=Kind.TOO_LONG, message="long", groups=(("a\nb",),))
    assert str(finding) == "t: error: too_long: long: 'a\\nb'"


def test_check_prints_the_same_each_time(run: Run, tmp_path: Path) -> None:
    root = write_collection(tmp_path)
    first, second = (run("tasks", "check", root, "--json") for _ in range(2))

    assert first == second and first[0] == 3
    printed = json.loads(first[1])
    assert list(printed) == ["passed", "tasks", "rows", "errors", "warnings", "findings"] and printed["errors"] == 2
    leak, duplicate = printed["findings"]
    assert list(leak) == "task split kind severity message count groups against labels".split()
    values = [leak[key] for key in ("task", "split", "kind", "severity", "count", "against")]
    assert values == ["questions", "test", "leak", "error", 4, "train"]
    assert (duplicate["kind"], duplicate["count"], len(duplicate["groups"][0])) == ("duplicate", 9, 2)


def test_window_is_an_option(run: Run, tmp_path: Path) -> None:
    write_task(tmp_path / "tasks", NOTES, train=[*notes("a glad day"), *notes("a day", target="sad", first=1)])
    byte_tokenizer().save_pretrained(tmp_path / "lm")
    check = ["tasks", "check", tmp_path / "tasks", "--lm", tmp_path / "lm" / "tokenizer.json", "--window"]
    # A token for each byte, and one for BOS.
    longest = 1 + len("Give the mood of the note.\n\nNote: a glad day\nMood: glad")

    assert run(*check, longest)[0] == 0
    status, out, _ = run(*check, longest - 1)
    message = f"train: error: too_long: 1 of 2 rows has more tokens than the window of {longest - 1}"
    assert status == 3 and message in out


LABELS = ["no", "south", "east", "west", "up", "down"]


def test_stats_prints_a_table(run: Run, tmp_path: Path) -> None:
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

    status, out, _ = run("tasks", "stats", tmp_path)

    assert (status, out.splitlines()) == (
        0,
        [
            "                        input, words          target, words",
            "task  split  rows  median  95 %  longest  median  95 %  longest  fields              labels or choices",
            "pick  train     2       2     3        3       2     2        2  question            2 to 3 choices",
            "ways  train     7       4     4        4       1     1        1  a (57 % filled), b  6 labels, "
            "from up 29 % to no 14 %",
            "ways  test      6       3     4        4       1     1        1  a (50 % filled), b  6 labels, 17 % each",
        ],
    )


def test_stats_prints_json(run: Run, tmp_path: Path) -> None:
    row: Mapping[str, Json] = {"id": "1", "input": {"text": "a b", "hint": None}, "target": "sad"}
    write_task(tmp_path, NOTES, train=[row])
    expected = {
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
        "long": None,
    }

    assert run("tasks", "stats", tmp_path, "--json") == (
        0,
        json.dumps({"unit": "words", "splits": [expected]}) + "\n",
        "",
    )


def test_stats_measure_long_rows(run: Run, tmp_path: Path) -> None:
    long = " ".join(f"Word{n} met word{n + 1}." for n in range(8))
    rows: list[Mapping[str, Json]] = [
        {"id": f"{n}", "input": {"text": text}, "target": "sad"} for n, text in enumerate(["One. Two.", long, long])
    ]
    write_task(tmp_path, NOTES, train=rows)

    (split,) = json.loads(run("tasks", "stats", tmp_path, "--json")[1])["splits"]
    assert split["long"]["rows"] == 2
    expected = {name: round(value, 3) for name, value in asdict(measure_text(long)).items()}
    assert split["long"]["medians"] == expected and expected["sentences"] == 8
    last = run("tasks", "stats", tmp_path)[1].splitlines()[-1]
    assert last.startswith("notes, train: 2 rows of 8 sentences and more; medians: sentences 8, connectives 0, chains ")


def test_long_rows_are_read_by_a_language_model(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [counting(*range(101, 109)), counting(*range(109, 101, -1)), counting(*range(1, 5)), counting(*range(8))]
    write_task(tmp_path, NOTES, train=notes(*map(" ".join, texts)))
    monkeypatch.syspath_prepend(tmp_path)
    install_entry_point(tmp_path, LM_GROUP, "tests.fakes:load_counting_lm")
    (split,) = json.loads(run("tasks", "stats", tmp_path, "--text-lm", "counts", "--json")[1])["splits"]
    assert split["long"]["rows"] == 3 and split["long"]["kinds"] == {"chaotic": 1, "aggregated": 0, "holistic": 2}
    found = coherence(CountingLM(), [texts[0], texts[1], texts[3]], shuffles=2)
    assert split["long"]["medians"]["joint"] == round(sorted(one.joint for one in found)[1], 3)
    assert run("tasks", "stats", tmp_path, "--text-lm", "counts")[1].endswith("; 1 chaotic, 0 aggregated, 2 holistic\n")
    status, out, _ = run("tasks", "check", tmp_path, "--skew", 0, "--text-lm", "counts", "--device", "cuda")
    assert status == 0
    assert "notes/train: warning: chaotic: 1 of 4 rows has a long text that is no likelier" in out and ": n1\n" in out


def test_stats_exclude_what_cannot_be_read(run: Run, tmp_path: Path) -> None:
    write_collection(tmp_path)
    (tmp_path / "mood/notes/task.toml").write_text("name =", "utf-8")
    (tmp_path / "topic/questions/test.jsonl").write_text("", "utf-8")

    status, out, err = run("tasks", "stats", tmp_path)

    assert (status, len(out.splitlines())) == (1, 4)
    assert f"skipped unreadable data: {tmp_path}/mood/notes/task.toml" in err and "(1 more like this" in err
    assert "place 33 %, person 33 %, number 33 %" in out
    assert run("tasks", "stats", tmp_path, "--tasks", "reviews")[0] == 0
    assert run("tasks", "stats", tmp_path, "--tasks", ",")[0] == 2


def test_help_and_a_check_without_models_are_light(collection: Path, tmp_path: Path) -> None:
    code = f"""
import sys
from udr import cli
cli.main(["tasks", "check", "--help"]), cli.main(["tasks", "check", {str(collection)!r}])
print([name for name in ("torch", "faiss", "sentence_transformers", "tokenizers") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_errors_exit_with_3_and_warnings_only_if_strict(run: Run, tmp_path: Path) -> None:
    write_task(tmp_path, NOTES, train=notes("a", "b"))
    status, out, _ = run("tasks", "check", tmp_path)
    assert (status, out.splitlines()) == (
        0,
        [str(report(tmp_path).findings[0]), f"{tmp_path}: 0 errors, 1 warning in 1 task, 2 rows"],
    )
    assert run("tasks", "check", tmp_path, "--strict")[0] == 3
    write_task(tmp_path, NOTES, train=[*notes("a", "A"), *notes("b", target="sad", first=2)])

    status, out, err = run("tasks", "check", tmp_path)

    assert (status, out) == (3, f"{report(tmp_path).findings[0]}\n")
    assert err == f"udr: error: {tmp_path}: 1 error, 0 warnings in 1 task, 3 rows\n"
    assert json.loads(run("tasks", "check", tmp_path, "--json")[1])["passed"] is False


def test_check_loads_the_named_encoder(run: Run, tmp_path: Path) -> None:
    write_task(tmp_path / "tasks", NOTES, train=[*notes("a b", "b  a"), *notes("zzzzzz", target="sad", first=2)])
    model = save_encoder(tmp_path / "model")
    check = ["tasks", "check", tmp_path / "tasks", "--model", model, "--near", "0.01", "--device", "cpu"]

    status, out, _ = run(*check)

    assert status == 0 and "near_duplicate" in out
