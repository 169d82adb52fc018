"""Every kind of finding on rows made for it, and statistics counted by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import NOTES, QUESTIONS, HashEncoder, write_collection, write_task
from tests.index.quality.conftest import notes, report
from tests.tiny_models import save_encoder, save_lm
from udr.errors import ConfigError, ModelError
from udr.models import SentenceEncoder
from udr.types import Json
from udr_index.quality import CheckConfig, Kind, Lengths, check, collect, load_window

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


def row(id: str, text: str, target: str = "glad", **more: Json) -> Mapping[str, Json]:
    return {"id": id, "input": {"text": text}, "target": target, **more}


TEXTS = {key: NOTES[key] for key in NOTES if key != "labels"}
COPIES: dict[str, tuple[Mapping[str, Json], Sequence[Mapping[str, Json]], Mapping[Kind, Any], str]] = {
    "classification": (
        NOTES,
        [row("a", "A day!"), row("b", "other"), row("c", "a DAY"), row("d", "a day"), row("e", "Other?", "sad")],
        {Kind.DUPLICATE: (("a", "c", "d"),), Kind.CONFLICTING_TARGETS: (("b", "e"),)},
        "2 rows share 1 input but not the target; keep the correct one",
    ),
    "generation": (
        {**TEXTS, "kind": "generation"},
        [row("a", "x", "1"), row("b", "x", "2"), row("c", "y", "1", references=["1", "2"]), row("d", "y", "2")],
        {Kind.DUPLICATE: (("c", "d"),), Kind.SEVERAL_ANSWERS: (("a", "b"),)},
        "2 rows share 1 input but not the target; if all are correct",
    ),
    "multiple choice": (
        {**TEXTS, "kind": "multiple_choice"},
        [
            row(id, "x", target, choices=[*choices])
            for id, target, choices in (("a", "1", "12"), ("b", "1", "13"), ("c", "2", "21"))
        ],
        {Kind.CONFLICTING_TARGETS: (("a", "c"),), Kind.OTHER_CHOICES: (("a", "b"),)},
        "name {choices} in the input template",
    ),
    "empty fields": (
        {**NOTES, "input": "{thing}: {text}"},
        [
            row(id, "", input={"text": text, "thing": ""}, target=target)
            for id, text, target in (("a", " ", "glad"), ("b", "\t", "sad"), ("c", "fine", "glad"))
        ],
        {Kind.EMPTY_INPUT: (("a",), ("b",)), Kind.EMPTY_FIELD: (("c",),)},
        "1 of 3 rows has no text in the field 'thing'",
    ),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_and_empty_fields_are_found(tmp_path: Path, name: str) -> None:
    task, rows, expected, message = COPIES[name]
    write_task(tmp_path, task, train=rows)

    result = report(tmp_path)

    assert {finding.kind: finding.groups for finding in result.findings} == expected
    assert message in result.findings[1].message
    warned = {Kind.SEVERAL_ANSWERS, Kind.CONFLICTING_TARGETS, Kind.OTHER_CHOICES, Kind.EMPTY_FIELD} & expected.keys()
    errors = 2 - len(warned)
    assert (result.errors, result.warnings, result.passed()) == (errors, len(warned), not errors)


def test_input_fields_that_no_template_names_are_found(tmp_path: Path) -> None:
    unread = [row("a", "one", input={"text": "one", "url": "x"}), row("b", "two", input={"text": "two", "n": 1})]
    write_task(tmp_path, NOTES, train=[*unread, row("c", "three")])
    (finding,) = (each for each in report(tmp_path).findings if each.kind is Kind.UNREAD_FIELD)
    assert (finding.count, finding.severity) == (2, "warning")
    assert finding.message.startswith("2 of 3 rows have input fields that the template does not name")
    assert finding.message.endswith("move them to metadata: 'n', 'url'")


def test_good_collection_has_no_findings(tmp_path: Path) -> None:
    root = write_collection(tmp_path)
    (root / "topic/questions/test.jsonl").unlink()
    result = check(CheckConfig(tasks=root, names=("questions", "notes")))
    assert (result.findings, result.num_tasks, result.num_rows) == ((), 2, 44)
    assert result.passed() and result.passed(strict=True)


def test_rows_of_an_earlier_split_are_leaks(tmp_path: Path) -> None:
    train = [*notes("one", "two", "three"), *notes("six", target="sad", first=3)]
    validation = notes("TWO", "four", first=10)
    write_task(tmp_path, NOTES, train=train, validation=validation, test=notes("four!", "three", "five", first=20))

    findings = report(tmp_path, names=("notes",)).findings

    assert [(finding.kind, finding.split, finding.against, finding.groups) for finding in findings] == [
        (Kind.LEAK, "validation", "train", (("n10", "n1"),)),
        (Kind.LEAK, "test", "train", (("n21", "n2"),)),
        (Kind.LEAK, "test", "validation", (("n20", "n11"),)),
    ]
    assert "1 of 2 rows has the input of a row of train; remove them from one of the two" in findings[0].message


def test_collection_without_tasks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"contains no task\.toml"):
        report(tmp_path)


def test_missing_and_rare_labels_are_found(tmp_path: Path) -> None:
    rows: list[Mapping[str, Json]] = [
        {"id": f"{n:02}", "input": {"question": f"q {n}"}, "target": "person" if n == 7 else "place"} for n in range(40)
    ]
    write_task(tmp_path, QUESTIONS, train=rows)

    missing, rare = check(CheckConfig(tasks=tmp_path)).findings

    assert (missing.kind, missing.labels) == (Kind.MISSING_LABEL, ("number",))
    # Rare is what has less than a tenth of 40 / 3 rows.
    assert (rare.kind, rare.labels) == (Kind.LABEL_SKEW, ("person",))
    assert rare.message.startswith("1 label is rare: 'person' has 1 row, where labels have 13 on average")
    assert report(tmp_path).findings == (missing,)


def test_near_duplicates_and_near_leaks_are_found_by_the_encoder(tmp_path: Path) -> None:
    train = [*notes("the sun shone all day", "all day shone the sun", "rain and wind", "THE SUN SHONE ALL DAY")]
    train += notes("sun the shone all day", target="sad", first=4)
    write_task(tmp_path, NOTES, train=train, test=notes("wind and rain", "rain and wind", "snow", first=10))

    findings = report(tmp_path, near=0.99, encoder=HashEncoder()).findings
    near = [finding for finding in findings if finding.kind in (Kind.NEAR_DUPLICATE, Kind.NEAR_LEAK)]

    # Copies are reported as copies only.
    assert [(finding.split, finding.kind, finding.groups) for finding in near] == [
        ("train", Kind.NEAR_DUPLICATE, (("n0", "n1", "n4"),)),
        ("test", Kind.NEAR_DUPLICATE, (("n10", "n11"),)),
        ("test", Kind.NEAR_LEAK, (("n10", "n2"),)),
    ]
    message = "2 rows are very similar to an earlier row (similarity 1.000, 1 with another label); review them"
    assert message in near[0].message and str(near[1]).endswith("n10 ~ n11")


def test_rows_over_the_window_are_found(tmp_path: Path) -> None:
    write_task(tmp_path / "tasks", NOTES, train=[*notes("short", "x" * 700), *notes("y" * 600, target="sad", first=2)])
    lm = str(save_lm(tmp_path / "lm"))

    (finding,) = report(tmp_path / "tasks", lm=lm).findings

    # A token for each byte, and one for BOS.
    longest = 1 + len("Give the mood of the note.\n\nNote: \nMood: glad") + 700
    assert (finding.kind, finding.groups) == (Kind.TOO_LONG, (("n1",), ("n2",)))
    message = "2 of 3 rows have more tokens than the window of 512, instruction and target included (the longest "
    assert f"{message}{longest})" in finding.message
    assert report(tmp_path / "tasks", lm=lm, window=longest).findings == ()


def test_window_is_read_from_the_configuration(tmp_path: Path) -> None:
    lm = save_lm(tmp_path / "lm")
    assert load_window(str(lm)).tokens == 512
    (lm / "config.json").write_text("{", "utf-8")
    with pytest.raises(ModelError, match=r"config\.json is not JSON; set the window with --window"):
        load_window(str(lm))
    (lm / "config.json").write_text('{"text_config": {"n_positions": 9}}', "utf-8")
    assert load_window(str(lm)).tokens == 9
    (lm / "config.json").unlink()
    with pytest.raises(ConfigError, match="gives the size of its context window; set it with --window"):
        load_window(str(lm))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"near": 0.0}, "must be above 0 and at most 1, found 0.0"),
        ({"skew": 1.5}, "must be from 0 to 1, found 1.5"),
        ({"window": 5}, "give --lm with --window"),
        ({"window": 0, "lm": "x"}, "the window must be at least 1 token, found 0"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CheckConfig(tasks=tmp_path, **changes)


@pytest.mark.parametrize(
    ("lengths", "expected"), [([7], (7, 7, 7)), (range(1, 21), (10, 19, 20)), ([5, 1, 3, 2], (2, 5, 5))]
)
def test_lengths_are_those_of_texts(lengths: Sequence[int], expected: tuple[int, int, int]) -> None:
    result = Lengths.of(lengths)
    assert (result.median, result.percentile_95, result.longest) == expected


def test_statistics_count_rows_words_fields_and_labels(tmp_path: Path) -> None:
    rows = [*notes("one", "two words", " "), *notes("three whole words", target="sad", first=3)]
    write_task(tmp_path / "tasks", NOTES, train=rows, test=notes("four", first=9))

    statistics = collect(tmp_path / "tasks")

    train, test = statistics.splits
    assert (train.rows, test.rows, statistics.unit, statistics.errors) == (4, 1, "words", ())
    assert (train.input.median, train.input.longest) == (2, 4)
    assert train.fields == {"text": 3} and train.labels == {"glad": 3, "sad": 1}
    _, test = collect(tmp_path / "tasks", tokenizer=str(save_lm(tmp_path / "lm"))).splits
    assert (test.input.longest, test.target.longest) == (len("Note: four"), len("glad"))


def test_rows_that_the_encoder_cuts_are_not_called_duplicates(tmp_path: Path) -> None:
    context = "the old castle stands by the lake " * 60
    task = {**QUESTIONS, "input": "Context: {context}\nQuestion: {question}"}
    rows: list[Mapping[str, Json]] = [
        {"id": str(n), "input": {"context": context, "question": f"{word} is it?"}, "target": "place"}
        for n, word in enumerate(("Where", "Whose", "What", "How old"))
    ]
    write_task(tmp_path / "tasks", task, train=rows)
    encoder = SentenceEncoder.load(str(save_encoder(tmp_path / "model")), device="cpu")
    kinds = {finding.kind: finding for finding in check(CheckConfig(tasks=tmp_path / "tasks"), encoder).findings}
    assert Kind.NEAR_DUPLICATE not in kinds
    assert kinds[Kind.CUT_BY_ENCODER].count == 4
    assert "4 of 4 different inputs are longer than the encoder's" in kinds[Kind.CUT_BY_ENCODER].message


def test_labels_that_look_alike_and_odd_ids_are_found(tmp_path: Path) -> None:
    task = {**QUESTIONS, "labels": ["place", "Place ", "\uff30lace", "person"]}
    rows = [{"id": id, "input": {"question": f"Where {id}?"}, "target": "place"} for id in ("a\nb", " c", "d e")]
    write_task(tmp_path, task, train=rows)
    found = {finding.kind: finding for finding in check(CheckConfig(tasks=tmp_path)).findings}
    assert found[Kind.SIMILAR_LABELS].labels == ("place", "Place ", "\uff30lace")
    assert found[Kind.ODD_ID].groups == (("a\nb",), (" c",))
