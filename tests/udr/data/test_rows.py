"""Rows: read alike from JSONL, CSV and Parquet; errors name file, line and field."""

import csv
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
from tests.udr.data.test_formatting import CHOICE
from udr.data import numbered_rows, parquet_records, parse_row, parse_task, read_rows, rows_and_errors
from udr.errors import DataError
from udr.types import Row

TASK = parse_task(QUESTIONS)
VALID: Mapping[str, Any] = {"id": "1", "input": {"question": "Where?"}, "target": "place"}
NESTED = json.loads("[" * 64 + "]" * 64)


def jsonl(tmp_path: Path, *lines: str | Mapping[str, Any]) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines), "utf-8")
    return path


def parquet(path: Path, **columns: Any) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def test_jsonl_rows_are_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    metadata = {"n": [1, None, {"x": "y"}]}
    full = {**VALID, "id": "0", "references": ["a", "b"], "metadata": metadata}
    rows = list(read_rows(TASK, jsonl(tmp_path, VALID, "", full)))
    question = {"question": "Where?"}
    assert rows == [
        Row(id="1", input=question, target="place"),
        Row(id="0", input=question, target="place", references=("a", "b"), metadata=metadata),
    ]
    assert [row.to_json() for row in rows] == [VALID, full]


def test_csv_and_parquet_rows_equal_jsonl_rows(tmp_path: Path) -> None:
    # Braces, LaTeX, special tokens and control characters are data.
    text = 'a "b",\nc {"a": {b}} {question} $\\frac{x}{y}$ </s>[CLS]<|endoftext|> \x1b[0m\u2028🙂'
    inputs = [{"question": text, "note": ""}, {"question": "ü", "note": "z"}]
    columns = {"id": [text, "2"], "target": ["x", "y"], "choices": [["x", "y"]] * 2, "metadata": [{"n": 1}, None]}
    rows = [
        Row(id=text, input=inputs[0], target="x", choices=("x", "y"), metadata={"n": 1}),
        Row(id="2", input=inputs[1], target="y", choices=("x", "y")),
    ]
    with (tmp_path / "train.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "target", "choices", "metadata", "question", "note"])
        for row in rows:
            metadata = json.dumps(row.metadata) if row.metadata else ""
            writer.writerow([row.id, row.target, json.dumps(row.choices), metadata, *row.input.values()])
    flat = {name: [fields[name] for fields in inputs] for name in inputs[0]}

    for path in (
        jsonl(tmp_path, *(row.to_json() for row in rows)),
        tmp_path / "train.csv",
        parquet(tmp_path / "flat.parquet", **columns, **flat),
        parquet(tmp_path / "nested.parquet", **columns, input=inputs),
    ):
        assert list(read_rows(CHOICE, path)) == rows, path.name


def test_a_column_of_texts_may_be_named_input(tmp_path: Path) -> None:
    task = parse_task({**QUESTIONS, "input": "{input} {note}"})
    # A JSON text that is no object is a text.
    inputs = ["Where?", "[1]", "{0} or {1}?"]
    columns = {"id": ["1", "2", "3"], "target": ["place"] * 3, "input": inputs, "note": ["a", "b", "c"]}
    with (tmp_path / "train.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])
    expected = [Row(id=str(n + 1), input={"input": inputs[n], "note": "abc"[n]}, target="place") for n in range(3)]
    assert list(read_rows(task, tmp_path / "train.csv")) == expected
    assert list(read_rows(task, parquet(tmp_path / "train.parquet", **columns))) == expected
    # As the export of an index writes it, with its other columns.
    nested = {**columns, "input": [json.dumps(row.input) for row in expected]}
    assert list(read_rows(task, parquet(tmp_path / "nested.parquet", **nested))) == expected
    broken = {**nested, "input": [nested["input"][0], "{'input': 1}", ""]}
    with pytest.raises(DataError, match=r"train.parquet:2: field 'input': not JSON"):
        list(read_rows(task, parquet(tmp_path / "train.parquet", **broken)))
    texts = ["", r"{\bf word}", "{0}", '{"input": "x", "note": "y"}']
    mixed = {"id": list("1234"), "target": ["place"] * 4, "input": texts, "note": list("abcd")}
    path = parquet(tmp_path / "mixed.parquet", **mixed)
    assert [row.input for row in read_rows(task, path)] == [
        {"input": text, "note": note} for text, note in zip(texts, "abcd", strict=True)
    ]


texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(question=texts, other=st.lists(st.none() | st.booleans() | texts | st.integers(), max_size=3))
def test_a_row_equals_the_row_of_its_json(question: str, other: list[Any]) -> None:
    row = Row(id="1", input={"question": question, "other": other}, target="place", metadata={question: other})
    assert parse_row(TASK, json.loads(json.dumps(row.to_json()))) == row


def with_question(text: str) -> str:
    return json.dumps(VALID).replace('"Where?"', text)


def without(key: str) -> Mapping[str, Any]:
    return {name: value for name, value in VALID.items() if name != key}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[1]", r"must be an object, found '\[1\]'"),
        ('{"id": "1", "id": "2"}', "an object has a duplicate key, among 'id', 'id'"),
        *((with_question(text), f"{text} is not a JSON number") for text in ("NaN", "Infinity")),
        (with_question("1" * 5000), "not JSON: Exceeds the limit"),
        (with_question('"\\ud800"'), "surrogates"),
        ("[" * 100_000, "not JSON: maximum recursion depth"),
        (with_question("[" * 20 + "]" * 20), "'input.question'"),
        *((without(key), f"field '{key}': is missing") for key in ("id", "target")),
        ({**VALID, "id": 7}, "field 'id': must be a non-empty string, found 7"),
        ({**VALID, "id": ""}, "field 'id': must be a non-empty string"),
        ({**VALID, "id": "n" * 513}, "field 'id': must have at most 512 characters, found 513 in 'nnn.*; shorten it"),
        ({**VALID, "id": "a\0b"}, r"field 'id': must not have the character NUL, found 'a\\x00b'; remove that"),
        (without("input"), "field 'input': must be an object of fields, found None"),
        ({**VALID, "input": "Where?"}, "field 'input': must be an object of fields"),
        ({**VALID, "input": {"q": "?"}}, "'input.question': is missing, but .* 'questions' uses it; found 'q'"),
        ({**VALID, "input": {"question": {}}}, "field 'input.question': must be a string, number"),
        ({**VALID, "target": "Place"}, "field 'target': 'Place' is not one of the labels place, person, number"),
        ({**VALID, "references": "a"}, "field 'references': must be a list of non-empty strings"),
        ({**VALID, "metadata": []}, "field 'metadata': must be a JSON object"),
        ({**VALID, "metadata": {"a": NESTED}}, "field 'metadata': must be a JSON object, nested at most 64 deep"),
        ({**VALID, "label": "x"}, "field 'label': unknown key; the known keys are id, input, target"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_invalid_row_is_an_error_with_file_and_line(tmp_path: Path, line: Any, message: str) -> None:
    path = jsonl(tmp_path, {**VALID, "id": "0"}, line)
    with pytest.raises(DataError, match=message) as caught:
        list(read_rows(TASK, path))
    assert str(caught.value).startswith(f"{path}:2: ")
    assert len(str(caught.value)) < 1000 and "\n" not in str(caught.value)


def test_metadata_may_be_nested_and_the_labels_of_an_error_are_few() -> None:
    assert parse_row(TASK, {**VALID, "metadata": {"a": NESTED[0]}}).metadata == {"a": NESTED[0]}
    many = parse_task({**QUESTIONS, "labels": [f"label {number}" for number in range(500)]})
    with pytest.raises(DataError, match=r"is not one of the labels label 0, label 1, .* and \d+ more$") as caught:
        parse_row(many, VALID)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (None, "field 'choices': must be at least two different choices, in a list beside the input; found in it"),
        (["a"], "field 'choices': must be at least two different choices"),
        (["a", "a"], "field 'choices': must be at least two different choices"),
        (["a", " "], "field 'choices': must be a list of non-empty strings"),
        (["b", "c"], r"field 'target': 'a' is not one of the choices \['b', 'c'\]"),
    ],
)
def test_invalid_choices_are_an_error(choices: list[str] | None, message: str) -> None:
    # A field may have the name ``choices``.
    keys = {"id": "1", "input": {"question": "?", "choices": "x"}, "target": "a", "choices": choices}
    with pytest.raises(DataError, match=message):
        parse_row(CHOICE, keys)


@pytest.mark.parametrize("blank", [b"\n", b"\r\n \r\n", b"\xef\xbb\xbf\n\t\n"])
def test_blank_lines_of_csv_are_passed_over_wherever_they_are(tmp_path: Path, blank: bytes) -> None:
    path, lines = tmp_path / "a.csv", blank.count(b"\n")
    path.write_bytes(blank + b"id;question;target\n" + blank.lstrip(b"\xef\xbb\xbf") + b"1;a;place\n")
    ((line, row),) = numbered_rows(TASK, path)
    assert (line, row.id, row.input) == (2 * lines + 2, "1", {"question": "a"})
    path.write_bytes(blank + b"id,id\n")
    with pytest.raises(DataError, match=f":{lines + 1}: two columns have the same name"):
        list(read_rows(TASK, path))
    path.write_bytes(blank)
    with pytest.raises(DataError, match="is empty; the first line must hold the column names"):
        list(read_rows(TASK, path))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.jsonl", b'\n{"id": "\xff"}\n', r":2: not UTF-8: byte 8 of the line \(invalid start byte\)"),
        ("a.csv", b'id,question,target\n{"id": "\xff"}\n', ":2: not UTF-8: byte 8 of the line"),
        ("a.csv", b"", "is empty; the first line must hold the column names"),
        ("a.csv", b'"id,target\n', "not CSV: unexpected end of data"),
        ("a.csv", b'id,question,target\n1,"a,place\n', ":2: not CSV: unexpected end of data"),
        (
            "a.csv",
            b'id,question,target\n1,a,place\n2,"a,place\n3,b,place\n',
            ":3: not CSV: unexpected end of data: the record that begins here cannot be read; close its quotes",
        ),
        ("a.csv", b'id,question,target\n1,"a\nb"c,place\n', ":2: not CSV: ',' expected after '\"': the record"),
        ("a.csv", b'id,question,target\n1,"a\nb"\n', ":2: has 2 cells, but the header has 3"),
        ("a.csv", b"id,id\n", ":1: two columns have the same name"),
        (
            "a.csv",
            b"id|question|target\n",
            ":1: has no column 'target'; found 'id|question|target'; columns are separated by a comma, ",
        ),
        ("a.csv", b"id,question,target\n1,a\n", ":2: has 2 cells, but the header has 3"),
        ("a.csv", b"id,question,target,choices\n1,a,place,[\n", ":2: field 'choices': not JSON"),
        ("a.csv", b"id,question,target\n1,a,place\n1,a,place\n", ":3: field 'id': '1' was already used on line 2"),
        ("a.csv", b"id,target\n1,place\n", ":2: field 'input.question': is missing"),
        ("a.parquet", b"PAR1 not really", "a.parquet: not a readable Parquet file"),
    ],
)
def test_an_invalid_file_is_an_error(tmp_path: Path, file: str, content: bytes, message: str) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(read_rows(TASK, tmp_path / file))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("metadata", {"day": datetime.date(2020, 1, 1)}, "field 'metadata': must be a JSON object"),
        ("question", b"bytes", "field 'input.question': must be a string"),
        ("question", float("nan"), "field 'input.question': must be a string, .* found nan"),
    ],
)
def test_parquet_values_without_json_type_are_an_error(tmp_path: Path, column: str, value: Any, message: str) -> None:
    columns = {"id": ["1"], "question": ["?"], "target": ["place"], column: [value]}
    with pytest.raises(DataError, match=f"train.parquet:1: {message}"):
        list(read_rows(TASK, parquet(tmp_path / "train.parquet", **columns)))


EXPECTED = Row(id="1", input={"question": "Where?"}, target="place")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("a.jsonl", b'\xef\xbb\xbf{"id": "1", "input": {"question": "Where?"}, "target": "place"}\r\n\r\n'),
        ("a.jsonl", b'\r\r{"id": "1", "input": {"question": "Where?"}, "target": "place"}\r'),
        ("a.csv", b"\xef\xbb\xbfid,question,target\r\n1,Where?,place\r\n\r\n"),
        ("a.csv", b"id,question,target\r1,Where?,place\r"),
        ("a.csv", b"id;question;target\n\n1;Where?;place\n"),
        ("a.csv", b"target\tid\tquestion\nplace\t1\tWhere?"),
    ],
)
def test_files_are_read_as_people_write_them(tmp_path: Path, file: str, content: bytes) -> None:
    (tmp_path / file).write_bytes(content)
    assert list(read_rows(TASK, tmp_path / file)) == [EXPECTED]


def test_cells_may_be_long_and_hold_line_ends(tmp_path: Path) -> None:
    question = "Where?\r\n\r" * 100_000
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "question", "target"], ["1", question, "place"]])
    (row,) = read_rows(TASK, tmp_path / "a.csv")
    assert row.input["question"] == question


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_pointer_of_git_lfs_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"train.{suffix}"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n", "utf-8")
    with pytest.raises(DataError, match=f"train.{suffix}: is a Git LFS pointer, .*; run: git lfs pull"):
        list(read_rows(TASK, path))


def test_an_invalid_row_does_not_hide_the_others(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text(
        "id,question,target\n1,Where?,place\n2,Who?\n3,Who?,nobody\n1,Why?,place\n4,When?,number\n", "utf-8"
    )
    results = dict(rows_and_errors(TASK, path, distinct=True))
    assert [line for line, row in results.items() if isinstance(row, Row)] == [2, 6]
    assert [str(error).partition(": ")[2][:20] for error in results.values() if isinstance(error, DataError)] == [
        "has 2 cells, but the",
        "field 'target': 'nob",
        "field 'id': '1' was ",
    ]


def test_a_line_without_an_end_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("udr.data.records.LONGEST_LINE", 1000)
    path = jsonl(tmp_path, VALID, {**VALID, "id": "2", "input": {"question": "?" * 2000}})
    with pytest.raises(DataError, match=r"train.jsonl:2: is longer than 1000 bytes without a line feed"):
        list(read_rows(TASK, path))


NOT_UTF8 = pyarrow.Array.from_buffers(
    pyarrow.string(), 1, [None, pyarrow.py_buffer(b"\0\0\0\0\1\0\0\0"), pyarrow.py_buffer(b"\xff")]
)
YEAR_36812 = pyarrow.array([1_099_511_627_776], pyarrow.timestamp("s"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([("text", ["a"]), ("text", ["b"])], "two columns have the name 'text'; rename one"),
        ([("text", NOT_UTF8)], "not a readable Parquet file: 'utf-8' codec can't decode byte 0xff"),
        ([("at", YEAR_36812)], "not a readable Parquet file: "),
    ],
)
def test_a_parquet_file_that_python_cannot_hold_is_refused(
    tmp_path: Path, columns: list[tuple[str, Any]], message: str
) -> None:
    path = tmp_path / "train.parquet"
    names, values = zip(*columns, strict=True)
    pyarrow.parquet.write_table(pyarrow.table(list(map(pyarrow.array, values)), names=list(names)), path)
    with pytest.raises(DataError, match=message):
        list(parquet_records(path))
