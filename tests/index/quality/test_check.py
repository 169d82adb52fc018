"""Pool care: every kind of finding on rows made for it, and statistics counted by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes import NOTES, QUESTIONS, HashEncoder, write_collection, write_task
from tests.tiny_models import save_lm
from tests.udr.search.test_exact import unit
from udr.errors import ConfigError, ModelError, UnknownTaskError
from udr.types import Json
from udr_index.quality import (
    SEVERITIES,
    Alike,
    CheckConfig,
    Kind,
    Lengths,
    Report,
    Severity,
    alike,
    alike_to,
    check,
    collect,
    load_window,
)

Rows = list[Mapping[str, Json]]
CHOICES: Mapping[str, Json] = {
    "name": "things",
    "family": "choice",
    "kind": "multiple_choice",
    "instruction": "Choose.",
    "input": "Thing: {thing}",
    "output": "{target}",
    "metric": "accuracy",
}
WORDS: Mapping[str, Json] = {**CHOICES, "name": "words", "kind": "generation", "metric": "exact_match"}


def notes(*texts: str, target: str = "glad", first: int = 0) -> Rows:
    return [{"id": f"n{n}", "input": {"text": text}, "target": target} for n, text in enumerate(texts, first)]


def found(root: Path, **changes: Any) -> Report:
    encoder = changes.pop("encoder", None)
    return check(CheckConfig(tasks=root, **{"skew": 0, **changes}), encoder)


def kinds(report: Report) -> list[str]:
    return [finding.kind.value for finding in report.findings]


def test_a_good_collection_has_no_findings(tmp_path: Path) -> None:
    root = write_collection(tmp_path)
    (root / "topic/questions/test.jsonl").unlink()
    report = check(CheckConfig(tasks=root, names=("questions", "notes")))
    assert (report.findings, report.num_tasks, report.num_rows) == ((), 2, 44)
    assert report.passed() and report.passed(strict=True)


def test_copies_are_told_by_what_else_they_share(tmp_path: Path) -> None:
    rows = [*notes("A day!", "other", "a DAY", "a day"), *notes("Other?", target="sad", first=4)]
    write_task(tmp_path, NOTES, train=rows)

    duplicate, conflict = found(tmp_path).findings

    assert (duplicate.kind, duplicate.count, duplicate.groups) == (Kind.DUPLICATE, 2, (("n0", "n2", "n3"),))
    assert (conflict.kind, conflict.count, conflict.groups) == (Kind.CONFLICTING_TARGETS, 2, (("n1", "n4"),))
    assert str(duplicate) == (
        "notes/train: error: duplicate: 2 rows repeat input and target of an earlier row; keep one of each: "
        "n0 = n2 = n3"
    )
    assert "2 rows share 1 input but not the target; find out which is right" in conflict.message


def test_several_right_answers_are_a_warning_and_one_among_references_a_duplicate(tmp_path: Path) -> None:
    def row(id: str, thing: str, target: str, *references: str) -> Mapping[str, Json]:
        return {"id": id, "input": {"thing": thing}, "target": target, "references": list(references)}

    rows = [row("a", "x", "1"), row("b", "x", "2"), row("c", "y", "1", "1", "2"), row("d", "y", "2")]
    write_task(tmp_path, WORDS, train=rows)

    report = found(tmp_path)

    assert [(one.kind, one.groups) for one in report.findings] == [
        (Kind.DUPLICATE, (("c", "d"),)),
        (Kind.SEVERAL_ANSWERS, (("a", "b"),)),
    ]
    assert (report.errors, report.warnings, report.passed()) == (1, 1, False)


def test_one_input_with_other_choices_is_told(tmp_path: Path) -> None:
    rows: Rows = [
        {"id": "a", "input": {"thing": "x"}, "target": "1", "choices": ["1", "2"]},
        {"id": "b", "input": {"thing": "x"}, "target": "1", "choices": ["1", "3"]},
        {"id": "c", "input": {"thing": "x"}, "target": "2", "choices": ["2", "1"]},
    ]
    write_task(tmp_path, CHOICES, train=rows)

    report = found(tmp_path)

    assert [(one.kind, one.groups) for one in report.findings] == [
        (Kind.CONFLICTING_TARGETS, (("a", "c"),)),
        (Kind.OTHER_CHOICES, (("a", "b"),)),
    ]
    assert "name {choices} in the input template" in report.findings[1].message


def test_rows_of_an_earlier_split_are_leaks(tmp_path: Path) -> None:
    train = [*notes("one", "two", "three"), *notes("six", target="sad", first=3)]
    validation = notes("TWO", "four", first=10)
    write_task(tmp_path, NOTES, train=train, validation=validation, test=notes("four!", "three", "five", first=20))

    report = found(tmp_path, names=("notes",))

    assert [(one.split, one.against, one.kind.value, one.groups) for one in report.findings] == [
        ("validation", "train", "leak", (("n10", "n1"),)),
        ("test", "train", "leak", (("n21", "n2"),)),
        ("test", "validation", "leak", (("n20", "n11"),)),
    ]
    assert "1 of 2 rows has the input of a row of train; remove them from one of the two" in report.findings[0].message


def test_empty_fields_and_inputs(tmp_path: Path) -> None:
    task = {**NOTES, "input": "Thing: {thing}\nReview: {text}"}
    rows: Rows = [
        {"id": id, "input": {"thing": thing, "text": text}, "target": "glad"}
        for id, thing, text in (("a", "pot", " "), ("b", "", "\t"), ("c", "pan", "fine"), ("d", "", ""))
    ]
    write_task(tmp_path, task, train=rows)

    report = found(tmp_path)

    assert [(one.kind, one.count, one.groups) for one in report.findings if one.kind is not Kind.MISSING_LABEL] == [
        (Kind.EMPTY_INPUT, 2, (("b",), ("d",))),
        (Kind.EMPTY_FIELD, 1, (("a",),)),
    ]
    assert "1 of 4 rows has no text in the field 'text'" in report.findings[1].message


def test_labels_that_few_rows_have_or_none(tmp_path: Path) -> None:
    rows: Rows = [
        {"id": f"{n:02}", "input": {"question": f"q {n}"}, "target": "person" if n == 7 else "place"} for n in range(40)
    ]
    write_task(tmp_path, QUESTIONS, train=rows)

    missing, rare = check(CheckConfig(tasks=tmp_path)).findings

    assert (missing.kind, missing.labels) == (Kind.MISSING_LABEL, ("number",))
    # A tenth of an even share of 40 rows among 3 labels is 1.33 rows.
    assert (rare.kind, rare.labels) == (Kind.LABEL_SKEW, ("person",))
    assert "1 label has fewer than 1.3 rows, 0.1 of an even share" in rare.message and "'person' (1)" in rare.message
    assert kinds(found(tmp_path)) == ["missing_label"]


def test_what_cannot_be_read_hides_nothing_else(tmp_path: Path) -> None:
    write_task(tmp_path, NOTES, train=[{"id": "1", "input": {"text": "x"}, "target": "angry"}])
    write_task(tmp_path, QUESTIONS, train=[], test=[{"id": "1", "input": {"question": "x"}, "target": "place"}])
    (write_task(tmp_path, CHOICES) / "task.toml").write_text("name = ", "utf-8")

    report = found(tmp_path)

    assert kinds(report) == ["unreadable"] * 3
    assert [(one.task, one.split) for one in report.findings] == [
        ("notes", "train"),
        ("questions", "train"),
        ("things", None),
    ]
    assert "train.jsonl:1: field 'target': 'angry' is not one of the labels" in report.findings[0].message
    assert report.num_rows == 1 and report.num_tasks == 3


def test_near_duplicates_and_near_leaks_by_the_encoder(tmp_path: Path) -> None:
    train = notes("the sun shone all day", "all day shone the sun", "rain and wind", "THE SUN SHONE ALL DAY")
    write_task(tmp_path, NOTES, train=train, test=notes("wind and rain", "rain and wind", "snow", first=10))

    report = found(tmp_path, near=0.99, encoder=HashEncoder())
    near = [one for one in report.findings if one.kind in (Kind.NEAR_DUPLICATE, Kind.NEAR_LEAK)]

    # Copies are told of as copies, once.
    assert [(one.split, one.kind, one.groups) for one in near] == [
        ("train", Kind.NEAR_DUPLICATE, (("n0", "n1"),)),
        ("test", Kind.NEAR_DUPLICATE, (("n10", "n11"),)),
        ("test", Kind.NEAR_LEAK, (("n10", "n2"),)),
    ]
    assert "1 row is near to an earlier row (similarity 1.000); look at them" in near[0].message
    assert str(near[0]).endswith("n0 ~ n1")


def test_near_rows_with_another_label_are_counted(tmp_path: Path) -> None:
    rows = [*notes("a b c"), *notes("c b a", target="sad", first=1)]
    write_task(tmp_path, NOTES, train=rows)
    (one,) = found(tmp_path, near=0.99, encoder=HashEncoder()).findings
    assert "similarity 1.000, 1 with another label" in one.message


@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.9])
def test_alike_is_what_brute_force_finds(monkeypatch: pytest.MonkeyPatch, threshold: float) -> None:
    monkeypatch.setattr("udr_index.quality.cosine_pairs._BLOCK", 16)
    monkeypatch.setattr("udr_index.quality.cosine_pairs._SEGMENT", 7)
    generator = np.random.default_rng(0)
    vectors = unit(9, 6, seed=0)[generator.integers(0, 9, 90)] + 0.2 * unit(90, 6, seed=1)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    cosines = np.round(vectors.astype(np.float64) @ vectors.astype(np.float64).T, 5)

    expected: list[Alike] = []
    kept: list[int] = []
    for position in range(90):
        best = max(kept, key=lambda other: (cosines[position, other], -other), default=None)
        if best is not None and cosines[position, best] >= threshold:
            expected.append(Alike(position, best, float(cosines[position, best])))
        else:
            kept.append(position)

    assert alike(vectors, threshold) == expected
    queries = [
        Alike(place, int(cosines[place, 40:].argmax()), float(cosines[place, 40:].max()))
        for place in range(40)
        if cosines[place, 40:].max() >= threshold
    ]
    assert alike_to(vectors[:40], vectors[40:], threshold) == queries


def test_rows_over_the_window(tmp_path: Path) -> None:
    write_task(tmp_path / "tasks", NOTES, train=notes("short", "x" * 700, "y" * 600))
    lm = save_lm(tmp_path / "lm")

    report = found(tmp_path / "tasks", lm=str(lm))
    (one,) = [one for one in report.findings if one.kind is Kind.TOO_LONG]

    # A byte a token, and one for BOS; instruction, blank line, "Note: ", newline, "Mood: glad".
    longest = 1 + len("Give the mood of the note.\n\nNote: \nMood: glad") + 700
    assert one.groups == (("n1",), ("n2",))
    assert (
        f"2 of 3 rows have more tokens than the window of 512, instruction and target included (the longest {longest})"
        in one.message
    )
    assert Kind.TOO_LONG not in [one.kind for one in found(tmp_path / "tasks", lm=str(lm), window=longest).findings]


def test_a_window_that_nothing_tells(tmp_path: Path) -> None:
    lm = save_lm(tmp_path / "lm")
    assert load_window(str(lm)).tokens == 512
    (lm / "config.json").write_text("{", "utf-8")
    with pytest.raises(ModelError, match=r"config\.json is not JSON; give the window by --window"):
        load_window(str(lm))
    (lm / "config.json").write_text('{"text_config": {"n_positions": 9}}', "utf-8")
    assert load_window(str(lm)).tokens == 9
    (lm / "config.json").unlink()
    with pytest.raises(ConfigError, match="tells how many tokens it reads at once; give them by --window"):
        load_window(str(lm))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"near": 0.0}, "must be above 0 and at most 1, found 0.0"),
        ({"skew": 1.5}, "must be from 0 to 1, found 1.5"),
        ({"window": 5}, "give --lm beside --window"),
        ({"window": 0, "lm": "x"}, "the window must be at least 1 token, found 0"),
    ],
)
def test_settings_that_make_no_sense(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CheckConfig(tasks=tmp_path, **changes)


def test_no_task_and_an_unknown_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no task"):
        found(tmp_path)
    write_task(tmp_path, NOTES, train=notes("a"))
    with pytest.raises(UnknownTaskError, match="unknown task 'nope'; there are notes"):
        found(tmp_path, names=("nope",))


def test_every_kind_has_a_severity() -> None:
    assert set(SEVERITIES) == set(Kind)
    assert SEVERITIES[Kind.LEAK] is Severity.ERROR and SEVERITIES[Kind.NEAR_LEAK] is Severity.WARNING


@pytest.mark.parametrize(
    ("lengths", "expected"), [([7], (7, 7, 7)), (range(1, 21), (10, 19, 20)), ([5, 1, 3, 2], (2, 5, 5))]
)
def test_lengths_are_those_of_texts(lengths: Sequence[int], expected: tuple[int, int, int]) -> None:
    found = Lengths.of(lengths)
    assert (found.median, found.percentile_95, found.longest) == expected


def test_statistics_count_rows_words_fields_and_labels(tmp_path: Path) -> None:
    rows = [*notes("one", "two words", " "), *notes("three whole words", target="sad", first=3)]
    write_task(tmp_path, NOTES, train=rows, test=notes("a", first=9))

    statistics = collect(tmp_path)

    train, test = statistics.splits
    assert (train.rows, test.rows, statistics.unit, statistics.errors) == (4, 1, "words", ())
    assert (train.inputs.median, train.inputs.longest) == (2, 4)
    assert train.fields == {"text": 3} and train.labels == {"glad": 3, "sad": 1}
    assert train.to_json()["labels"] == {"glad": {"rows": 3, "share": 0.75}, "sad": {"rows": 1, "share": 0.25}}


def test_statistics_in_tokens(tmp_path: Path) -> None:
    write_task(tmp_path / "tasks", NOTES, train=notes("four"))
    (train,) = collect(tmp_path / "tasks", tokenizer=str(save_lm(tmp_path / "lm"))).splits
    assert (train.inputs.longest, train.targets.longest) == (len("Note: four"), len("glad"))
