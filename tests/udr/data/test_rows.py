"""Rows: read alike from JSONL, CSV and Parquet, and refused with file, line and field."""

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import QUESTIONS
from udr.data import parse_row, parse_task, read_rows
from udr.errors import DataError
from udr.types import Row

TASK = parse_task(QUESTIONS)
CHOICE = parse_task(
    {
        "name": "choice",
        "family": "choice",
        "kind": "multiple_choice",
        "instruction": "Choose.",
        "input": "Question: {question}\nChoices: {choices}",
        "output": "Answer: {target}",
        "metric": "accuracy",
    }
)
GOOD: Mapping[str, Any] = {"id": "1", "input": {"question": "Where?"}, "target": "place"}


def jsonl(tmp_path: Path, *lines: str | Mapping[str, Any]) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines), "utf-8")
    return path


def test_jsonl_rows_are_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    full = {**GOOD, "id": "0", "references": ["a", "b"], "metadata": {"n": [1, None, {"x": "y"}]}}

    rows = list(read_rows(TASK, jsonl(tmp_path, GOOD, "", full)))

    assert rows == [
        Row(id="1", input={"question": "Where?"}, target="place"),
        Row(
            id="0",
            input={"question": "Where?"},
            target="place",
            references=("a", "b"),
            metadata={"n": [1, None, {"x": "y"}]},
        ),
    ]
    assert [row.to_json() for row in rows] == [GOOD, full]


def test_csv_and_parquet_give_the_rows_that_jsonl_gives(tmp_path: Path) -> None:
    rows = list(
        read_rows(
            CHOICE,
            jsonl(
                tmp_path,
                {
                    "id": "1",
                    "input": {"question": 'a "b",\nc', "note": ""},
                    "target": "x",
                    "choices": ["x", "y"],
                    "metadata": {"n": 1},
                },
                {"id": "2", "input": {"question": "ü", "note": "z"}, "target": "y", "choices": ["x", "y"]},
            ),
        )
    )
    csv = tmp_path / "train.csv"
    csv.write_text(
        '\ufeffid,question,note,target,choices,metadata\r\n1,"a ""b"",\nc",,x,"[""x"", ""y""]","{""n"": 1}"\r\n'
        '2,ü,z,y,"[""x"", ""y""]",\r\n',
        "utf-8",
        newline="",
    )
    flat, nested = tmp_path / "flat.parquet", tmp_path / "nested.parquet"
    columns: dict[str, Any] = {
        "id": ["1", "2"],
        "target": ["x", "y"],
        "choices": [["x", "y"]] * 2,
        "metadata": [{"n": 1}, None],
    }
    fields: dict[str, Any] = {"question": ['a "b",\nc', "ü"], "note": ["", "z"]}
    pyarrow.parquet.write_table(pyarrow.table({**columns, **fields}), flat)
    records = [{"question": q, "note": n} for q, n in zip(fields["question"], fields["note"], strict=True)]
    pyarrow.parquet.write_table(pyarrow.table({**columns, "input": records}), nested)

    for path in (csv, flat, nested):
        assert list(read_rows(CHOICE, path)) == rows, path.name


texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(question=texts, other=st.lists(st.none() | st.booleans() | texts | st.integers(), max_size=3))
def test_a_row_comes_back_from_its_json(question: str, other: list[Any]) -> None:
    row = Row(id="1", input={"question": question, "other": other}, target="place", metadata={question: other})

    assert parse_row(TASK, json.loads(json.dumps(row.to_json()))) == row


@pytest.mark.parametrize(
    "text", ['{"a": {b}} {question}', "$\\frac{x}{y}$", "</s>[CLS]<|endoftext|>", "\0\x1b[0m\u2028", "🙂"]
)
def test_braces_json_latex_special_tokens_and_control_characters_are_data(tmp_path: Path, text: str) -> None:
    (row,) = read_rows(TASK, jsonl(tmp_path, {**GOOD, "id": text, "input": {"question": text}}))

    assert (row.id, row.input["question"]) == (text, text)


BAD_ROWS: dict[str, tuple[str | Mapping[str, Any], str]] = {
    "not JSON": ("{", "not JSON"),
    "not an object": ("[1]", r"must be an object, found '\[1\]'"),
    "a key twice": ('{"id": "1", "id": "2"}', "an object has a duplicate key, among 'id', 'id'"),
    "NaN": ('{"id": "1", "input": {"question": NaN}, "target": "place"}', "NaN is not a JSON number"),
    "Infinity in metadata": ({**GOOD, "metadata": {"a": float("inf")}}, "Infinity is not a JSON number"),
    "a number too large": ({**GOOD, "input": {"question": "X"}, "metadata": {}}, ""),
    "half a surrogate pair": ('{"id": "1", "input": {"question": "\\ud800"}, "target": "place"}', "surrogates"),
    "nested too deep to read": ("[" * 100_000, "not JSON: maximum recursion depth"),
    "nested too deep": (
        '{"id": "1", "input": {"question": ' + "[" * 20 + "]" * 20 + '}, "target": "place"}',
        "'input.question'",
    ),
    "id missing": ({"input": {"question": "?"}, "target": "place"}, "field 'id': is missing"),
    "id a number": ({**GOOD, "id": 7}, "field 'id': must be a non-empty string, found 7"),
    "id empty": ({**GOOD, "id": ""}, "field 'id': must be a non-empty string"),
    "input missing": ({"id": "1", "target": "place"}, "field 'input': must be an object of fields, found None"),
    "input a text": ({**GOOD, "input": "Where?"}, "field 'input': must be an object of fields"),
    "field missing": (
        {**GOOD, "input": {"q": "?"}},
        "field 'input.question': is missing, but .* 'questions' uses it; found 'q'",
    ),
    "field an object": ({**GOOD, "input": {"question": {}}}, "field 'input.question': must be a string, number"),
    "target missing": ({"id": "1", "input": {"question": "?"}}, "field 'target': is missing"),
    "target no label": (
        {**GOOD, "target": "thing"},
        "field 'target': 'thing' is not one of the labels place, person, number",
    ),
    "target in capitals": ({**GOOD, "target": "Place"}, "field 'target': 'Place' is not one of the labels"),
    "references a text": ({**GOOD, "references": "a"}, "field 'references': must be a list of non-empty strings"),
    "metadata a list": ({**GOOD, "metadata": []}, "field 'metadata': must be a JSON object"),
    "key unknown": ({**GOOD, "label": "x"}, "field 'label': unknown key; the known keys are id, input, target"),
}
BAD_ROWS["a number too large"] = (json.dumps(GOOD).replace('"Where?"', "1" * 5000), "not JSON: Exceeds the limit")


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_refused_with_file_and_line(tmp_path: Path, name: str) -> None:
    line, message = BAD_ROWS[name]
    path = jsonl(tmp_path, {**GOOD, "id": "0"}, line)

    with pytest.raises(DataError, match=message) as caught:
        list(read_rows(TASK, path))
    assert str(caught.value).startswith(f"{path}:2: ")
    assert len(str(caught.value)) < 1000 and "\n" not in str(caught.value)


BAD_CHOICES: dict[str, tuple[Mapping[str, Any], str]] = {
    "no choices": ({}, "field 'choices': must be at least two different"),
    "one choice": ({"choices": ["a"]}, "field 'choices': must be at least two different"),
    "a choice twice": ({"choices": ["a", "a"]}, "field 'choices': .* different choices"),
    "an empty choice": ({"choices": ["a", " "]}, "field 'choices': must be a list of non-empty strings"),
    "choice without target": ({"choices": ["b", "c"]}, r"field 'target': 'a' is not one of the choices \['b', 'c'\]"),
}


@pytest.mark.parametrize("name", BAD_CHOICES)
def test_bad_choices_are_refused(name: str) -> None:
    keys, message = BAD_CHOICES[name]

    with pytest.raises(DataError, match=message):
        parse_row(
            CHOICE, {"id": "1", "input": {"question": "?", "choices": "fields may be called so"}, "target": "a", **keys}
        )


def test_an_id_used_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train.jsonl:3: field 'id': '1' was already used on line 1"):
        list(read_rows(TASK, jsonl(tmp_path, GOOD, {**GOOD, "id": "2"}, GOOD)))


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_invalid_utf8_is_refused_with_its_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"train.{suffix}"
    first = json.dumps(GOOD) if suffix == "jsonl" else "id,question,target"
    path.write_bytes(f"{first}\n".encode() + b'{"id": "\xff"}\n')

    with pytest.raises(DataError, match=rf"train.{suffix}:2: not UTF-8: byte 8 of the line \(invalid start byte\)"):
        list(read_rows(TASK, path))


BAD_CSV = {
    "empty file": ("", "is empty; the first line must hold the column names"),
    "open quote in the header": ('"id,target\n', "not CSV: unexpected end of data"),
    "open quote": ('id,question,target\n1,"a,place\n', ":2: not CSV: unexpected end of data"),
    "column twice": ("id,id\n", ":1: two columns have the same name"),
    "cell missing": ("id,question,target\n1,a\n", ":2: has 2 cells, but the header has 3"),
    "choices not JSON": ("id,question,target,choices\n1,a,place,[\n", ":2: field 'choices': not JSON"),
    "column missing": ("id,target\n1,place\n", ":2: field 'input.question': is missing"),
}


@pytest.mark.parametrize("name", BAD_CSV)
def test_bad_csv_is_refused(tmp_path: Path, name: str) -> None:
    text, message = BAD_CSV[name]
    (tmp_path / "train.csv").write_text(text, "utf-8")

    with pytest.raises(DataError, match=message):
        list(read_rows(TASK, tmp_path / "train.csv"))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            {"metadata": [{"day": datetime.date(2020, 1, 1)}]},
            "train.parquet:1: field 'metadata': must be a JSON object",
        ),
        ({"question": [b"bytes"]}, "train.parquet:1: field 'input.question': must be a string"),
        ({"question": [float("nan")]}, "train.parquet:1: field 'input.question': must be a string, .* found nan"),
    ],
)
def test_parquet_values_that_json_cannot_say_are_refused(tmp_path: Path, column: dict[str, Any], message: str) -> None:
    table = pyarrow.table({"id": ["1"], "question": ["?"], "target": ["place"], **column})
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet")

    with pytest.raises(DataError, match=message):
        list(read_rows(TASK, tmp_path / "train.parquet"))


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"PAR1 not really")

    with pytest.raises(DataError, match=r"train.parquet: not a readable Parquet file"):
        list(read_rows(TASK, tmp_path / "train.parquet"))
