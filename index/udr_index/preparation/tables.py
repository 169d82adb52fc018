"""Tables that people have: CSV, JSONL, Parquet or Excel, read whole into records by column."""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from udr.data import jsonl_records, parquet_notes, parquet_records
from udr.errors import ConfigError, DataError, brief
from udr.files import LFS, lfs_pointer
from udr_index.plural import counted
from udr_index.preparation.dialect import MOST_UNREADABLE, decode, is_broken, sniff
from udr_index.preparation.excel import read_sheet

_TABS = {"tab": "\t", "\\t": "\t"}
"""How people write a tab on a command line."""

_MOST_TITLE_LINES = 50
"""How many lines are searched for a header below a title."""

_BROKEN = "rows with bytes that are not UTF-8"
_NOT_UTF8 = "bytes that are not UTF-8; save the file as UTF-8, or give --encoding"


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        path: its file.
        columns: the names of its columns, without spaces around them.
        records: the number of each record's first line (in Parquet, of the record), from 1, and its cells by column.
        left_out: the lines that hold no record, by what is wrong with them.
        format: the format, in words.
    """

    path: Path
    columns: tuple[str, ...]
    records: Sequence[tuple[int, Mapping[str, object]]]
    left_out: Mapping[str, Sequence[int]]
    format: str


def read_table(
    path: Path,
    names: Collection[str] = (),
    delimiter: str | None = None,
    encoding: str | None = None,
    sheet: str | None = None,
) -> Table:
    """Read a table by its file's suffix.

    Args:
        path: the file.
        names: columns that it is known to have, which help to find the delimiter.
        delimiter: what separates the columns of a CSV file; None finds out.
        encoding: the encoding of a CSV file; None finds out.
        sheet: the sheet of an Excel file; None is the first.

    Raises:
        ConfigError: an option does not fit the file, or its suffix is unknown.
        DataError: the file cannot be read, has no rows, or two columns with one name, or more than a tenth of its
            records cannot be read.
        MissingExtraError: a package that reads it is not installed.
    """
    suffix = path.suffix.lower()
    if path.is_dir() or suffix not in SUFFIXES:
        found = "a folder" if path.is_dir() else suffix or "no suffix"
        raise ConfigError(f"{path}: must be a file with one of {', '.join(SUFFIXES)}; found {found}")
    for flag, value, suffixes in (
        ("--delimiter", delimiter, CSV),
        ("--encoding", encoding, CSV),
        ("--sheet", sheet, _EXCEL),
    ):
        if value is not None and suffix not in suffixes:
            raise ConfigError(f"{flag} is only for {', '.join(suffixes)}; found {path.name}")
    delimiter = _TABS.get(delimiter or "", delimiter)
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise ConfigError(f"--delimiter must be one character or tab, found {delimiter!r}")
    if lfs_pointer(path):
        raise DataError(LFS, path=path)
    if suffix in CSV:
        table = _read_csv(path, names, delimiter, encoding)
    elif suffix in _EXCEL:
        rows, words = read_sheet(path, sheet)
        table = _from_rows(path, enumerate(rows, 1), words, "or remove the lines above the header")
    else:
        table = _OBJECTS[suffix](path)
    if not table.records:
        raise DataError("has no rows below its header", path=path)
    return table


def _read_csv(path: Path, names: Collection[str], delimiter: str | None, encoding: str | None) -> Table:
    try:
        text, encoding_words = decode(path.read_bytes(), encoding)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    dialect = sniff(text, names, delimiter)
    lines: list[tuple[int, list[str]]] = []
    try:
        lines.extend(dialect.records(text))
    except csv.Error as error:
        last = lines[-1][0] if lines else 0
        advice = "close its quotes, double those within a cell, or give --delimiter"
        raise DataError(f"the record after line {last} cannot be read ({error}); {advice}", path=path) from error
    _refuse_title(path, text, lines, names)
    advice = "remove the lines above the header, or give --delimiter"
    return _from_rows(path, lines, f"CSV, {dialect}; {encoding_words}", advice)


def _refuse_title(path: Path, text: str, records: Iterable[tuple[int, Sequence[str]]], names: Collection[str]) -> None:
    """Raise ``DataError`` if the first line lacks the names of columns that a later one has: a title is above it."""
    wanted = {name.strip() for name in names}
    header = next((cells for _, cells in records if any(map(str.strip, cells))), [])
    if not wanted or wanted <= set(map(str.strip, header)):
        return
    for number, line in enumerate(text.splitlines()[:_MOST_TITLE_LINES], 1):
        if wanted <= {cell.strip(' "') for cell in re.split(r"[,;\t|]", line)}:
            found = f"the header {brief(', '.join(header))} lacks the columns asked for, which line {number} has"
            raise DataError(f"{found}; remove the lines above line {number}", path=path)


def _from_rows(path: Path, lines: Iterable[tuple[int, Sequence[object]]], words: str, advice: str) -> Table:
    """Return the table whose first row that is not blank has the names of the columns.

    ``advice`` is what else to do if its rows do not fit them.
    """
    columns: tuple[str, ...] = ()
    records: list[tuple[int, Mapping[str, object]]] = []
    left_out: dict[str, list[int]] = {}
    for line, cells in lines:
        width = len(cells)
        while width and _is_blank(cells[width - 1]):
            width -= 1
        if not width:
            left_out.setdefault("blank lines", []).append(line)
        elif any(isinstance(cell, str) and is_broken(cell) for cell in cells):
            if not columns:
                raise DataError(f"the header holds {_NOT_UTF8}", path=path, line=line)
            left_out.setdefault(_BROKEN, []).append(line)
        elif not columns:
            columns = _names(path, line, cells[:width])
        elif width > len(columns):
            left_out.setdefault("rows with more cells than the header", []).append(line)
        elif len(cells) < len(columns):
            left_out.setdefault("rows with fewer cells than the header", []).append(line)
        else:
            records.append((line, dict(zip(columns, cells, strict=False))))
    if not columns:
        raise DataError("is empty; the first line must hold the names of the columns", path=path)
    broken = left_out.get(_BROKEN, [])
    _refuse_unreadable(path, broken, len(records), f"hold {_NOT_UTF8}")
    unreadable = [line for reason, found in left_out.items() if "cells" in reason for line in found]
    what = f"have more or fewer cells than the header, {brief(', '.join(columns))}; correct them, {advice}"
    _refuse_unreadable(path, unreadable, len(records), what)
    return Table(path, columns, records, left_out, words)


def _names(path: Path, line: int, cells: Sequence[object]) -> tuple[str, ...]:
    names = tuple(str(cell).strip() or f"column {number}" for number, cell in enumerate(cells, 1))
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"two columns have the name {brief(twice[0])}; rename one", path=path, line=line)
    return names


def _is_blank(cell: object) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())


def _read_jsonl(path: Path) -> Table:
    records: list[tuple[int, Mapping[str, object]]] = []
    errors: dict[int, DataError] = {}
    for line, record in jsonl_records(path):
        if isinstance(record, DataError):
            errors[line] = record
        else:
            records.append((line, _named(path, line, record)))
    if errors:
        _refuse_unreadable(path, list(errors), len(records), f"are not JSON objects: {next(iter(errors.values()))}")
    # Blank lines are not among the records.
    last = max([line for line, _ in records] + [0])
    blank = sorted(set(range(1, last)) - {line for line, _ in records} - errors.keys())
    invalid = "lines that are not JSON objects, or have a key twice or half a surrogate pair"
    left_out = {"blank lines": blank, invalid: list(errors)}
    return Table(
        path, _keys(records), records, {why: lines for why, lines in left_out.items() if lines}, "JSONL, utf-8"
    )


def _read_parquet(path: Path) -> Table:
    classes = _class_names(parquet_notes(path).get("huggingface", ""))

    def named(record: Mapping[str, object]) -> Mapping[str, object]:
        return {name: classes[name].get(value, value) if name in classes else value for name, value in record.items()}

    records = [(line, _named(path, line, named(record))) for line, record in parquet_records(path)]
    words = "".join(
        f"; the numbers of the column {brief(name)} are read as their names in the file" for name in classes
    )
    return Table(path, _keys(records), records, {}, f"Parquet{words}")


def _class_names(note: str) -> Mapping[str, Mapping[object, str | None]]:
    """Return what the numbers of each column mean, by the note that Hugging Face's datasets write; -1 means nothing."""
    try:
        features = json.loads(note)["info"]["features"]
        names = {name: feature["names"] for name, feature in features.items() if feature.get("_type") == "ClassLabel"}
        return {column: {-1: None, **dict(enumerate(map(str, classes)))} for column, classes in names.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _named(path: Path, line: int, record: Mapping[str, object]) -> Mapping[str, object]:
    """Return a record by the names of its columns, as ``_from_rows`` names them."""
    return dict(zip(_names(path, line, tuple(record)), record.values(), strict=True))


def _keys(records: Iterable[tuple[int, Mapping[str, object]]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for _, record in records for key in record))


def _refuse_unreadable(path: Path, lines: Sequence[int], readable: int, what: str) -> None:
    total = len(lines) + readable
    if len(lines) > MOST_UNREADABLE * total:
        raise DataError(f"{len(lines)} of {counted(total, 'row')} (the first on line {lines[0]}) {what}", path=path)


CSV = (".csv", ".tsv", ".txt")
"""The suffixes of tables whose cells are all texts."""

_EXCEL = (".xlsx", ".xls", ".xlsb", ".xlsm", ".ods")
_OBJECTS: Mapping[str, Callable[[Path], Table]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
}

SUFFIXES = (*CSV, *_OBJECTS, *_EXCEL)
"""The suffixes of tables."""
