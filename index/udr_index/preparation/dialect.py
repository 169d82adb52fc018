r"""The dialect of a CSV file that nobody described: its encoding, the delimiter of its columns, and its quoting.

The delimiter and the quoting are those with which most records have as many cells as the header. Quotes can be the
text's own, and a cell from one to the next would hold whole rows: then nothing is quoted. (Python's
``csv.Sniffer`` looks at characters alone.) A file that is not UTF-8 is in the encoding that chardet finds most likely
among those of Windows and the web; on texts of a few lines, charset-normalizer is often wrong.
"""

import codecs
import csv
import io
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import islice, product

from udr.errors import ConfigError, optional_import

MOST_UNREADABLE = 0.1
"""The share of unreadable records from which the file is probably read in the wrong way."""

_DELIMITERS = ",;\t|"
_SHOWN_WORDS = 3
_SAMPLE = 1000
"""The records that are looked at."""

_QUOTINGS: tuple[tuple[str | None, str | None], ...] = (('"', None), ('"', "\\"), (None, None), ("'", None))
"""Quotes around cells, and what escapes a quote in a cell if it is not doubled; of equals, the first."""

_BACKSLASH = re.compile(r'\\(["\\]?)')

_IN_WORDS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars", " ": "spaces"}
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)


def decode(data: bytes, encoding: str | None = None) -> tuple[str, str]:
    """Return the text of a file, and its encoding in words.

    If most lines that are not ASCII are UTF-8, so is the file, and other bytes become half surrogate pairs: see
    ``is_broken``.

    Raises:
        ConfigError: the file is not in the given encoding, or there is no such encoding, or it is no text.
    """
    if encoding is not None:
        try:
            return data.decode(encoding).removeprefix("\ufeff"), encoding
        except (LookupError, UnicodeError) as error:
            raise ConfigError(f"--encoding {encoding} does not fit: {_with_line(error)}") from error
    for bom, name in _BOMS.items():
        if data.startswith(bom):
            try:
                return data.decode(name), f"{name.removesuffix('-sig')} with a byte order mark"
            except UnicodeError as error:
                raise ConfigError(
                    f"is not in the encoding that its byte order mark names: {_with_line(error)}"
                ) from error
    if 0 not in data and _is_utf8(data):
        return data.decode("utf-8", "surrogateescape"), "utf-8"
    name = _guess(data)
    try:
        text = data.decode(name)
    except (LookupError, UnicodeError) as error:
        raise ConfigError(f"is not UTF-8, and its encoding is not found; give it with --encoding ({error})") from error
    if "\0" in text:
        raise ConfigError("is not a text; give its encoding with --encoding if it is one")
    words = [*dict.fromkeys(re.findall(r"\w*[^\W\x00-\x7f]\w*|[^\x00-\x7f]", text))]
    # From all parts of the file, of which some may be in another encoding.
    spread = [repr(words[len(words) * n // _SHOWN_WORDS][:40]) for n in range(_SHOWN_WORDS)] if words else []
    shown = f", as in {', '.join(dict.fromkeys(spread))}" if spread else ""
    return text, f"probably {name.lower()}{shown}; if letters look wrong, give --encoding"


def is_broken(text: str) -> bool:
    """Return whether a text that ``decode`` returned has bytes that are not UTF-8."""
    return _HALF_PAIR.search(text) is not None


def _is_utf8(data: bytes) -> bool:
    """Return whether most lines that are not ASCII are UTF-8; in other encodings, hardly any is."""
    broken = [is_broken(line.decode("utf-8", "surrogateescape")) for line in data.splitlines() if not line.isascii()]
    return 2 * sum(broken) < max(len(broken), 1)


def _with_line(error: Exception) -> str:
    """Return an error of decoding with the line on which it is."""
    if not isinstance(error, UnicodeDecodeError):
        return str(error)
    before = error.object[: error.start].decode(error.encoding, "ignore")
    line = len(re.findall(r"\r\n?|\n", before)) + 1
    return f"{error}, on line {line}"


def _guess(data: bytes) -> str:
    with optional_import("chardet, which tells encodings apart,", "index"):
        import chardet
    # Lines in ASCII look the same in almost every encoding.
    telling = b"\n".join(line for line in data.splitlines() if not line.isascii()) if 0 not in data else data
    found = chardet.detect(telling, encoding_era=chardet.EncodingEra.MODERN_WEB)
    return found["encoding"] or "cp1252"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How cells are separated and quoted; ``start`` is where the table begins, after a line ``sep=;`` of Excel's."""

    delimiter: str
    quote: str | None = '"'
    escape: str | None = None
    start: int = 0

    def __str__(self) -> str:
        separated = f"columns separated by {_IN_WORDS.get(self.delimiter, repr(self.delimiter))}"
        if self.quote is None:
            return f"{separated}, nothing quoted"
        return f"{separated}, cells quoted by {self.quote}{f' and escaped by {self.escape}' if self.escape else ''}"

    def records(self, text: str) -> Iterator[tuple[int, list[str]]]:
        """Yield the number of each record's first line, and its cells; none for a blank line.

        Raises:
            csv.Error: a cell's quotes are not closed, or something follows them.
        """
        if self.escape is not None:
            # A backslash before anything but a quote or a backslash is the text's own, as in \frac.
            text = _BACKSLASH.sub(lambda found: found[0] if found[1] else r"\\", text)
        stream = io.StringIO(text, newline="")
        stream.seek(self.start)
        before = text.count("\n", 0, self.start)
        reader = csv.reader(
            stream,
            delimiter=self.delimiter,
            quotechar=self.quote,
            quoting=csv.QUOTE_NONE if self.quote is None else csv.QUOTE_MINIMAL,
            # Quotes count as doubled here, too, for without that a cell may go on after its quotes, which are lost.
            escapechar=self.escape,
            skipinitialspace=True,
            strict=True,
        )
        line = 0
        for cells in reader:
            yield before + line + 1, cells
            line = reader.line_num


def sniff(text: str, names: Collection[str] = (), delimiter: str | None = None) -> Dialect:
    """Return the dialect that fits a text best.

    Args:
        text: a table with a header.
        names: columns that it is known to have.
        delimiter: what separates the columns, if that is known.
    """
    start = 0
    if first := _SEPARATOR_LINE.match(text):
        start, delimiter = first.end(), delimiter or first[1]
    delimiters = [delimiter] if delimiter is not None else _DELIMITERS
    quotings = [quoting for quoting in _QUOTINGS if quoting[1] is None or '\\"' in text]
    dialects = [Dialect(one, *quoting, start) for quoting, one in product(quotings, delimiters)]
    best = max(dialects, key=lambda dialect: _fit(dialect, text, names, _SAMPLE))
    # A quoting can first show in a later record. That of the header is certain.
    if not _can_read(best, text):
        others = [Dialect(best.delimiter, *quoting, start) for quoting in quotings]
        header = _count(best, text, 1)[0]
        best = max(
            [one for one in others if _count(one, text, 1)[0] == header and _can_read(one, text)],
            key=lambda dialect: _fit(dialect, text, names),
            default=best,
        )
    plain = replace(best, quote=None, escape=None)
    return plain if best.quote is not None and _hold_rows(best, plain, text) else best


def _hold_rows(quoted: Dialect, plain: Dialect, text: str) -> bool:
    """Return whether the quotes of a dialect are the text's own, so that cells from one to the next hold rows.

    Almost all lines then have all cells of a record, also those in which such a cell begins and ends. The lines of a
    quoted cell have fewer; or, if it holds a table itself, those have more in which it begins or ends.
    """
    header, even, _ = _count(quoted, text)
    plain_header, plain_even, total = _count(plain, text)
    if plain_header != header or plain_even <= max(even, (1 - MOST_UNREADABLE) * total):
        return False
    widths = {line: len(cells) for line, cells in plain.records(text)}
    try:
        starts = [line for line, _ in quoted.records(text)]
    except csv.Error:
        return True
    ends = [line - 1 for line in [*starts[1:], max(widths) + 1]]
    return all(
        widths[line] == len(header)
        for first, last in zip(starts, ends, strict=True)
        if first < last
        for line in (first, last)
    )


def _can_read(dialect: Dialect, text: str) -> bool:
    """Return whether a dialect reads a whole text, but for the share of records that may be unreadable."""
    try:
        header, *widths = [len(cells) for _, cells in dialect.records(text) if cells]
    except (csv.Error, ValueError):
        return False
    return widths.count(header) >= (1 - MOST_UNREADABLE) * len(widths)


def _fit(dialect: Dialect, text: str, names: Collection[str], most: int | None = None) -> tuple[bool, bool, float, int]:
    """Return how well a dialect fits: has the known columns, has several, the share of even records, the columns."""
    header, even, total = _count(dialect, text, most)
    return set(names) <= set(header), len(header) > 1, even / max(total, 1), len(header)


def _count(dialect: Dialect, text: str, most: int | None = None) -> tuple[list[str], int, int]:
    """Return the header, the number of records with as many cells, and that of all, among the first ``most``."""
    header: list[str] = []
    even = total = 0
    try:
        for _, cells in islice(dialect.records(text), most):
            if not header:
                header = [cell.strip() for cell in cells]
            elif cells:
                total += 1
                even += len(cells) == len(header)
    except csv.Error:
        total += 1
    return header, even, total
