"""Tables in each format, and what is refused."""

import csv
import json
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.index.preparation.conftest import write_csv, write_excel
from udr.errors import ConfigError, DataError, MissingExtraError
from udr.installation import install_extra
from udr_index.preparation import read_table

ROWS = "".join(f"text {n},label\n" for n in range(40))


def test_csv_lines_without_a_record_are_named(tmp_path: Path) -> None:
    text = "\n Ticket Body ,label,,\n\none,x\n , ,\n" + ROWS + "short\nlong,x,y\nempty,cells,,,\n"
    table = read_table(write_csv(tmp_path, text))

    assert table.columns == ("Ticket Body", "label")
    assert table.left_out == {
        "blank lines": [1, 3, 5],
        "rows with fewer cells than the header": [46],
        "rows with more cells than the header": [47],
    }
    assert table.records[0] == (4, {"Ticket Body": "one", "label": "x"})
    assert table.records[-1] == (48, {"Ticket Body": "empty", "label": "cells"}) and len(table.records) == 42
    assert table.format == 'CSV, columns separated by commas, cells quoted by "; utf-8'


def test_rows_that_are_not_utf8_are_left_out_by_line(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(("text,label\n" + 'für,x\n"zwei\nça",y\n' * 20).encode() + b'"zwei\ncaf\xe9",x\n')
    table = read_table(path)
    assert table.records[-1] == (60, {"text": "zwei\nça", "label": "y"})
    assert table.left_out == {"rows with bytes that are not UTF-8": [62]} and table.format.endswith("; utf-8")
    for data, message in ((b"\xe9,b\n", "table.csv:1: the header holds bytes that"), (b"a,b\n\xe9,x\n", "line 2")):
        path.write_bytes(data + "für,ça\nfür,ça\nfür,ça\n".encode())
        with pytest.raises(DataError, match=f"{message}.* not UTF-8; save the file as UTF-8, or give --encoding"):
            read_table(path)


def test_a_column_without_a_name_gets_its_number(tmp_path: Path) -> None:
    assert read_table(write_csv(tmp_path, ",text,label\n0,one,x\n")).columns == ("column 1", "text", "label")


@given(
    rows=st.lists(st.lists(st.text(), min_size=2, max_size=2), min_size=1, max_size=8),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
def test_any_text_in_quotes_is_read_as_it_was_written(
    rows: list[list[str]], delimiter: str, encoding: str, line_end: str
) -> None:
    # A NUL would make it no text, and half a surrogate pair cannot be written.
    rows = [[cell.replace("\0", "").encode("utf-8", "ignore").decode() for cell in row] for row in rows]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        with path.open("w", encoding=encoding, newline="") as file:
            writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator=line_end)
            writer.writerows([["a text", "label"], *rows, ["last", "x"]])
        table = read_table(path, ["label"])
    assert [tuple(record.values()) for _, record in table.records[:-1]] == [
        tuple(row) for row in rows if any(cell.strip() for cell in row)
    ]


def test_jsonl_has_the_keys_of_all_records_and_values_of_any_type(tmp_path: Path) -> None:
    lines = (
        ['{"text": "one", "n": 1}', "", '{"text": "two", "label": {"a": [null]}}'] + ['{"text": "t"}'] * 30 + ["[1]"]
    )
    lines += ['{"n": 1, "n": 2}', '{"text": "\\ud800"}']
    table = read_table(write_csv(tmp_path, "\n".join(lines) + "\n", "table.jsonl"))

    assert table.columns == ("text", "n", "label")
    assert table.records[:2] == [(1, {"text": "one", "n": 1}), (3, {"text": "two", "label": {"a": [None]}})]
    reason = "lines that are not JSON objects, or have a key twice or half a surrogate pair"
    assert table.left_out == {"blank lines": [2], reason: [34, 35, 36]}


def test_parquet_is_read(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"text": ["one", None], "input": [1.5, 2.0]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "table.parquet")
    table = read_table(tmp_path / "table.parquet")

    assert (table.columns, table.format) == (("text", "input"), "Parquet")
    assert table.records == [(1, {"text": "one", "input": 1.5}), (2, {"text": None, "input": 2.0})]


def test_parquet_names_the_numbers_of_labels(tmp_path: Path) -> None:
    label = {"_type": "ClassLabel", "names": ["down", "up"]}
    note = {"info": {"features": {"text": {"_type": "Value"}, "label": label}}}
    table = pyarrow.table({"text": ["one", "two", "three", "four"], "label": [0, 1, -1, 7], "n": [0, 1, 0, 1]})
    path = tmp_path / "table.parquet"
    for text, labels in (
        (json.dumps(note), ["down", "up", None, 7]),
        ('{"info": {"features": []}}', [0, 1, -1, 7]),
        ("{", [0, 1, -1, 7]),
    ):
        pyarrow.parquet.write_table(table.replace_schema_metadata({"huggingface": text}), path)
        read = read_table(path)
        assert [record["label"] for _, record in read.records] == labels
        assert ("the numbers of the column 'label' are read as their names in the file" in read.format) == (
            None in labels
        )
        assert [record["n"] for _, record in read.records] == [0, 1, 0, 1]


def test_the_names_of_columns_are_without_spaces_around_them_in_each_format(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({" text ": ["one"], "n\n": [1]}), tmp_path / "table.parquet")
    write_csv(tmp_path, '{" text ": "one", "n\\n": 1}\n', "table.jsonl")
    for name in ("table.parquet", "table.jsonl"):
        table = read_table(tmp_path / name)
        assert (table.columns, table.records) == (("text", "n"), [(1, {"text": "one", "n": 1})])
    pyarrow.parquet.write_table(pyarrow.table({"text": ["one"], "text ": ["two"]}), tmp_path / "table.parquet")
    write_csv(tmp_path, '{"text": "one", "text ": "two"}\n', "table.jsonl")
    for name in ("table.parquet", "table.jsonl"):
        with pytest.raises(DataError, match=f"{name}:1: two columns have the name 'text'; rename one"):
            read_table(tmp_path / name)


def test_excel_is_read_by_sheet(tmp_path: Path) -> None:
    first: list[list[str | float | None]] = [["text", "n"], ["a & b\nc", 7], [None, None], ["d", 0.5]]
    path = write_excel(tmp_path / "table.xlsx", one=first, two=[["x"], ["y"]])
    table = read_table(path)

    assert table.records == [(2, {"text": "a & b\nc", "n": 7}), (4, {"text": "d", "n": 0.5})]
    assert table.left_out == {"blank lines": [3]}
    assert table.format == "Excel, sheet 'one' of 2; --sheet takes another"
    assert read_table(path, sheet="two").records == [(2, {"x": "y"})]
    with pytest.raises(ConfigError, match=r"has no sheet 'three'; the sheets are 'one', 'two'"):
        read_table(path, sheet="three")


def test_excel_keeps_large_numbers_and_says_what_its_sheets_lack(tmp_path: Path) -> None:
    large = write_excel(tmp_path / "large.xlsx", one=[["n", "m"], [2.0**53 - 1, 1e300]])
    assert read_table(large).records == [(2, {"n": 2**53 - 1, "m": 1e300})]
    empty = write_excel(tmp_path / "empty.xlsx", one=[], two=[["x"], ["y"]], three=[["x"], ["y"]])
    with pytest.raises(DataError, match="first sheet, 'one', is empty; name another with --sheet: 'two', 'three'"):
        read_table(empty)
    titled = write_excel(tmp_path / "titled.xlsx", one=[["Report", None], ["text", "label"], ["a", "b"]])
    with pytest.raises(DataError, match="the header, 'Report'; correct them, or remove the lines above the header"):
        read_table(titled)


def test_excel_without_its_extra_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    path = write_excel(tmp_path / "table.xlsx", one=[["x"], ["y"]])
    with pytest.raises(
        MissingExtraError, match=f"reads Excel, is not installed; run: {re.escape(install_extra('excel'))}"
    ):
        read_table(path)


@pytest.mark.parametrize("title", ["Report 2024;;\n\n", "# a comment\n", "Report 2024\n"])
@pytest.mark.parametrize("sign", [",", ";"])
def test_a_header_below_a_title_is_named(tmp_path: Path, title: str, sign: str) -> None:
    rows = "".join(f'text {n}{sign}"label"\n' for n in range(20))
    path = write_csv(tmp_path, f"{title}Text{sign}Label\n{rows}")
    line = title.count("\n") + 1
    with pytest.raises(
        DataError, match=f"lacks the columns .* which line {line} has; remove the lines above line {line}"
    ):
        read_table(path, ["Label"])
    if title.endswith(";;\n\n") and sign == ";":
        with pytest.raises(DataError, match="correct them, remove the lines above the header, or give --delimiter"):
            read_table(path)


REFUSED: dict[str, tuple[str, str, dict[str, str], str]] = {
    "suffix": ("table.doc", "x", {}, r"must be a file with one of \.csv, .*; found \.doc"),
    "no suffix": ("table", "x", {}, "found no suffix"),
    "empty": ("table.csv", "\n\n", {}, "is empty; the first line must hold the names of the columns"),
    "header only": ("table.csv", "a,b\n\n", {}, "has no rows below its header"),
    "no object": ("table.jsonl", "\n", {}, "has no rows"),
    "two names": ("table.csv", "a,b,a\n1,2,3\n", {}, "table.csv:1: two columns have the name 'a'; rename one"),
    "uneven rows": (
        "table.csv",
        "a,b\n1,2\n1,2,3\n",
        {},
        r"1 of 2 rows \(the first on line 3\) have more or fewer cells",
    ),
    "not JSON": ("table.jsonl", "x\n{}\n", {}, r"1 of 2 rows \(the first on line 1\) are not JSON objects: .*not JSON"),
    "open quotes": (
        "table.csv",
        "a,b\n" + '"1,2",3\n' * 5 + '4,"5\n6,7\n',
        {},
        "the record after line 6 cannot be read .*close its",
    ),
    "delimiter": ("table.csv", "a,b\n", {"delimiter": "ab"}, "--delimiter must be one character or tab, found 'ab'"),
    "delimiter of JSONL": (
        "table.jsonl",
        "{}\n",
        {"delimiter": ","},
        "--delimiter is only for .csv, .tsv, .txt; found",
    ),
    "sheet of CSV": ("table.csv", "a,b\n", {"sheet": "x"}, "--sheet is only for .xlsx"),
    "encoding": ("table.csv", "a,b\n1,é\n", {"encoding": "ascii"}, "table.csv: --encoding ascii does not fit"),
    "LFS": ("table.csv", "version https://git-lfs.github.com/spec/v1\n", {}, "Git LFS pointer"),
    "no Excel": ("table.xlsx", "a,b\n", {}, "not a readable Excel file"),
    "no Parquet": ("table.parquet", "a,b\n", {}, "not a readable Parquet file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused(name: str, tmp_path: Path) -> None:
    file, text, options, message = REFUSED[name]
    with pytest.raises((ConfigError, DataError), match=message):
        read_table(write_csv(tmp_path, text, file), **options)


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found a folder"):
        read_table(tmp_path)
