"""Sheets of Excel and OpenDocument files, by calamine; the only file with it."""

from collections.abc import Sequence
from pathlib import Path

from udr.errors import ConfigError, DataError, optional_import, reason
from udr_index.preparation.values import without_fraction


def read_sheet(path: Path, sheet: str | None = None) -> tuple[Sequence[Sequence[object]], str]:
    """Return the cells of a sheet by rows from the first, an empty one as ``""``, and the sheet in words.

    Raises:
        MissingExtraError: calamine is not installed.
        ConfigError: there is no such sheet.
        DataError: the file cannot be read, or the first of its sheets is empty.
    """
    with optional_import("python-calamine, which reads Excel,", "excel"):
        import python_calamine
    try:
        with python_calamine.load_workbook(path) as workbook:
            names = workbook.sheet_names
            if sheet is not None and sheet not in names:
                raise ConfigError(f"{path}: has no sheet {sheet!r}; the sheets are {', '.join(map(repr, names))}")
            name = names[0] if sheet is None else sheet
            rows = workbook.get_sheet_by_name(name).to_python(skip_empty_area=False)
    except (python_calamine.CalamineError, OSError) as error:
        raise DataError(f"not a readable Excel file: {reason(error)}", path=path) from error
    others = f" of {len(names)}; --sheet takes another" if len(names) > 1 and sheet is None else ""
    if others and not any(cell != "" for row in rows for cell in row):
        listed = ", ".join(map(repr, names[1:]))
        raise DataError(f"the first sheet, {name!r}, is empty; name another with --sheet: {listed}", path=path)
    # A number has always a fraction there; a whole one is meant without.
    return [list(map(without_fraction, row)) for row in rows], f"Excel, sheet {name!r}{others}"
