"""Outcomes of prompts as feedback: scores worked out by hand, what is left out, and what is refused."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from udr.data import Collection, open_collection
from udr.errors import ConfigError, DataError
from udr.types import Json
from udr_training.candidates import ImportedTask, import_outcomes, read_asked


def _outcome(prompt_id: str, text: str | None, shown: list[str], score: float, **more: Json) -> dict[str, Json]:
    keys: dict[str, Json] = {"prompt_id": prompt_id, "task": "reviews", "seconds": 1.5, **more}
    if text is not None:
        keys["input"] = {"text": text}
    return {**keys, "demonstrations": [*shown], "score": score}


def _write(path: Path, *outcomes: Mapping[str, Json]) -> Path:
    path.write_text("".join(json.dumps(outcome) + "\n" for outcome in outcomes), "utf-8")
    return path


@pytest.fixture
def collection(tasks: Path) -> Collection:
    return open_collection(tasks, ["reviews"])


def test_scores_are_means_shrunk_towards_the_mean_of_the_task(collection: Collection, tmp_path: Path) -> None:
    a, b, c = (f"reviews-train-{number:02}" for number in (1, 2, 3))
    path = _write(
        tmp_path / "outcomes.jsonl",
        _outcome("p1", "a fine day", [a, b], 1.0, target="good"),
        _outcome("p2", "A fine day!", [b, "gone"], 0.0),
        _outcome("p3", "a dull day", [c], 0.0),
        # Counts for the mean alone.
        _outcome("p4", None, [a], 1.0),
        _outcome("p5", "other words", ["gone"], 0.5),
        _outcome("p6", "even", [a], 0.5),
        {**_outcome("p7", None, [a], 0.5), "input": {"body": "of an earlier definition"}},
        {**_outcome("p8", "x", [a], 1.0), "task": "elsewhere"},
    )
    imported, others = import_outcomes(path, collection, tmp_path / "asked.jsonl")
    # (1 + 0 + 0 + 1 + 0.5 + 0.5 + 0.5) / 7; none of "elsewhere".
    assert imported == {
        "reviews": ImportedTask(7, 2, 0.5, without_input=1, unfit=1, gone=1, unknown=1, even=1),
    }
    assert others == 1
    first, second = read_asked(tmp_path / "asked.jsonl", collection)["reviews"]
    assert (first.query.id, first.query.input, first.others) == ("asked:p1", {"text": "a fine day"}, 0.5)
    # (s + 4 m) / (n + 4): a was shown once with 1, b twice with 1 and 0, c once with 0.
    assert first.scores == {a: pytest.approx(3 / 5), b: pytest.approx(3 / 6)}
    assert [first.score(a), first.score("never shown")] == pytest.approx([3 / 5, 0.5])
    assert second.query.id == "asked:p3" and second.scores == {c: pytest.approx(2 / 5)}
    assert imported["reviews"].left_out.startswith("outcomes without the input of their prompt (1), outcomes with")
    with pytest.raises(ConfigError, match=r"asked.jsonl exists; name another file"):
        import_outcomes(path, collection, tmp_path / "asked.jsonl")


@pytest.mark.parametrize(
    ("outcome", "error", "message"),
    [
        ({"score": 2}, DataError, r"outcomes.jsonl:1: field 'score': must be a number from 0 to 1, found 2"),
        ({"score": True}, DataError, "must be a number from 0 to 1, found True"),
        ({"demonstrations": "a"}, DataError, "demonstrations.*must be a list"),
        ({"input": "text"}, DataError, "input.*must be an object"),
        ({"note": 1}, DataError, "note.*unknown key"),
        ({"input": None}, ConfigError, "no outcome can be learned from: task reviews: outcomes without the input"),
        ({"task": "elsewhere"}, ConfigError, "no outcome can be learned from: none is of a task of"),
    ],
)
def test_what_cannot_be_imported_is_told(
    collection: Collection, tmp_path: Path, outcome: Mapping[str, Json], error: type[Exception], message: str
) -> None:
    path = _write(tmp_path / "outcomes.jsonl", {**_outcome("p1", "a", ["reviews-train-01"], 1.0), **outcome})
    with pytest.raises(error, match=message):
        import_outcomes(path, collection, tmp_path / "asked.jsonl")
    assert not (tmp_path / "asked.jsonl").exists()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"scores": {"a": "1"}}, DataError, r"scores\.a.*must be a number"),
        ({"others": None}, DataError, "others.*must be a number"),
        ({"input": {"words": "x"}}, DataError, "field 'text' of task 'reviews' is missing"),
        ({"task": "notes"}, ConfigError, "has no query of reviews; name the tasks that it has with --tasks"),
    ],
)
def test_a_file_of_queries_that_is_damaged_is_refused(
    collection: Collection, tmp_path: Path, change: Mapping[str, Json], error: type[Exception], message: str
) -> None:
    line: dict[str, Json] = {"task": "reviews", "id": "q", "input": {"text": "x"}, "scores": {"a": 1}, "others": 0.5}
    with pytest.raises(error, match=message):
        read_asked(_write(tmp_path / "asked.jsonl", {**line, **change}), collection)
    with pytest.raises(DataError, match="'q' was used before"):
        read_asked(_write(tmp_path / "asked.jsonl", line, line), collection)
    with pytest.raises(ConfigError, match="needs --feedback FILE, which udr feedback import writes"):
        read_asked(tmp_path / "nowhere.jsonl", collection)
