"""Records of the files that people write, JSONL, CSV and Parquet, by the same rules.

A byte order mark, any line end, blank lines and cells of any length are read. A record that cannot be read does not
hide the others: it is yielded as its error.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from udr.data.parquet import parquet_records
from udr.errors import DataError, brief
from udr.files import LFS, lfs_pointer

SUFFIXES = (".jsonl", ".csv", ".parquet")
"""The file types of a split."""

KEYS = ("id", "input", "target", "choices", "references", "metadata")
"""The keys of a record."""

Records = Iterator[tuple[int, Mapping[str, object] | DataError]]
"""The number of each record's first line, from 1, with the record or its error."""

LONGEST_LINE = 64 * 1024 * 1024
"""The longest line in bytes; a file without line ends would be read into memory whole."""

_DELIMITERS = ",;\t"
# The limit of Python's csv module is 128 KB, less than some contexts. It has no other place than this global one.
csv.field_size_limit(2**31 - 1)


def records(path: Path) -> Records:
    """Yield the records of a file, in constant memory.

    Raises:
        DataError: the file cannot be read, or not any further.
    """
    if lfs_pointer(path):
        raise DataError(LFS, path=path)
    yield from _READERS[path.suffix](path)


def jsonl_records(path: Path) -> Records:
    """Yield the objects of a JSONL file, whatever their keys."""
    for line, text in _lines(path):
        if isinstance(text, DataError):
            yield line, text
        elif text.strip():
            try:
                values = _parse_json(text, path, line)
            except DataError as error:
                yield line, error
                continue
            if isinstance(values, dict):
                yield line, values
            else:
                yield line, DataError(f"must be an object, found {text.strip()[:60]!r}", path=path, line=line)


def _parse_json(text: str, path: Path, line: int, field: str | None = None) -> object:
    try:
        value: object = json.loads(text, object_pairs_hook=distinct, parse_constant=_refuse)
        if "\\u" in text:
            # An escape can be a lone surrogate, which UTF-8 cannot encode.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON: {error}", path=path, line=line, field=field) from error
    return value


def distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return a JSON object from its pairs; ``ValueError`` if a key occurs twice."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"an object has a duplicate key, among {', '.join(brief(key) for key, _ in pairs[:8])}")
    return values


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not a JSON number")


def _lines(path: Path) -> Iterator[tuple[int, str | DataError]]:
    """Yield the numbered lines of a UTF-8 file with their ends: a line feed, a carriage return, or both."""
    line = 0
    with path.open("rb") as file:
        while block := file.readline(LONGEST_LINE + 1):
            if len(block) > LONGEST_LINE:
                raise DataError(f"is longer than {LONGEST_LINE} bytes without a line feed", path=path, line=line + 1)
            # Of bytes, unlike of text, these are the only ends of a line.
            for raw in block.splitlines(keepends=True):
                line += 1
                try:
                    yield line, raw.decode("utf-8-sig" if line == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    message = f"not UTF-8: byte {error.start} of the line ({error.reason})"
                    yield line, DataError(message, path=path, line=line)


def _csv(path: Path) -> Records:
    lines, start = _texts(path), list[str]()
    for text in lines:
        start.append(text)
        if text.strip():
            break
    reader = csv.reader(chain(start, lines), strict=True, delimiter=_delimiter(start[-1] if start else ""))
    # Where a record begins; the reader counts the lines that it has read.
    line, header = 1, list[str]()
    try:
        for cells in reader:
            if not _is_blank(cells):
                if header:
                    yield line, _from_cells(header, cells, path, line)
                else:
                    header = _header(cells, path, line)
            line = reader.line_num + 1
    except csv.Error as error:
        what = "the record that begins here cannot be read; close its quotes, and double those within a cell"
        raise DataError(f"not CSV: {error}: {what}", path=path, line=line) from error
    if not header:
        raise DataError("is empty; the first line must hold the column names", path=path)


def _header(cells: list[str], path: Path, line: int) -> list[str]:
    if len(set(cells)) < len(cells):
        raise DataError(f"two columns have the same name: {brief(cells)}", path=path, line=line)
    if "target" not in cells:
        found = f"has no column 'target'; found {', '.join(map(brief, cells[:32]))}"
        raise DataError(f"{found}; columns are separated by a comma, a semicolon or a tab", path=path, line=line)
    return cells


def _is_blank(cells: Sequence[str]) -> bool:
    """Return whether cells are those of a blank line."""
    return not cells or (len(cells) == 1 and not cells[0].strip())


def _texts(path: Path) -> Iterator[str]:
    for _, text in _lines(path):
        if isinstance(text, DataError):
            # Where the row ends is not known any more.
            raise text
        yield text


def _delimiter(first: str) -> str:
    """Return the character that separates the column names in the first line; a comma if none does."""
    for delimiter in _DELIMITERS:
        if "target" in next(csv.reader([first], delimiter=delimiter), ()):
            return delimiter
    return ","


def _from_cells(header: Sequence[str], cells: Sequence[str], path: Path, line: int) -> Mapping[str, object] | DataError:
    if len(cells) != len(header):
        message = f"has {len(cells)} cells, but the header has {len(header)}: {brief(', '.join(header))[1:-1]}"
        return DataError(message, path=path, line=line)
    columns = dict(zip(header, cells, strict=True))
    values: dict[str, object] = {name: columns[name] for name in ("id", "target") if name in columns}
    values["input"] = {name: cell for name, cell in columns.items() if _is_field(name)}
    try:
        for name in ("choices", "references", "metadata"):
            if columns.get(name):
                values[name] = _parse_json(columns[name], path, line, name)
    except DataError as error:
        return error
    return values


def _is_field(column: str) -> bool:
    return column == "input" or column not in KEYS


def _parquet(path: Path) -> Records:
    for line, _, values in from_columns(path):
        yield line, values


def from_columns(path: Path) -> Iterator[tuple[int, Mapping[str, object], Mapping[str, object] | DataError]]:
    """Yield line numbers of a Parquet file, the columns there, and the keys of the row that they make, or its error.

    The columns ``input`` and ``metadata`` may be JSON as text. If the first text in ``input`` that is not empty is no
    JSON object, or there is no such column, columns without a key's name are the fields of the input, in all rows.
    """
    has_fields: bool | None = None
    for line, record in parquet_records(path):
        given = record.get("input", "absent")
        if has_fields is None and given:
            has_fields = isinstance(given, str) and not _is_object(given)
        yield line, record, _keys_of(record, path, line, has_fields=has_fields is not False)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _keys_of(
    record: Mapping[str, object], path: Path, line: int, *, has_fields: bool
) -> Mapping[str, object] | DataError:
    values = {name: value for name, value in record.items() if name in KEYS and value is not None}
    if has_fields:
        values["input"] = {name: value for name, value in record.items() if _is_field(name)}
    try:
        for name in ("input", "metadata"):
            if isinstance(text := values.get(name), str):
                values[name] = _parse_json(text, path, line, name)
    except DataError as error:
        return error
    return values


_READERS: Mapping[str, Callable[[Path], Records]] = {".jsonl": jsonl_records, ".csv": _csv, ".parquet": _parquet}
