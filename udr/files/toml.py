"""TOML that people wrote: of a size and depth that the parser reads in no time."""

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from udr.errors import DataError
from udr.files.reading import read_text

_LARGEST = 1024 * 1024
_DEEPEST = 16
_LONG_TEXT = re.compile(r'''"""(?:[^\\]|\\.)*?(?:"""|\Z)''' + r"|'''.*?(?:'''|\Z)", re.DOTALL)
# The parser's time and memory grow with the square of the parts of a dotted key.
_LONG_KEY = re.compile(r"""(?:^|[{,\[])[ \t]*(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){16}""", re.MULTILINE)


def read_toml(path: Path) -> dict[str, Any]:
    """Return the keys of a TOML file; raises as ``read_text`` and ``parse_toml``, and if it is too large."""
    if (size := path.stat().st_size) > _LARGEST:
        raise DataError(f"has {size} bytes; a TOML file may have at most {_LARGEST}", path=path)
    return parse_toml(read_text(path), path)


def parse_toml(text: str, path: Path | None = None) -> dict[str, Any]:
    """Return the keys that a text in TOML defines; ``DataError`` if it is not TOML, or nested too deeply."""
    too_deep = DataError(f"nested more than {_DEEPEST} levels deep", path=path)
    if _LONG_KEY.search(_LONG_TEXT.sub('""', text)):
        raise too_deep
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # A number of thousands of digits is a plain ValueError.
        raise DataError(f"not TOML: {error}", path=path) from error
    layer: list[object] = [values]
    for _ in range(_DEEPEST):
        layer = [inner for value in layer for inner in _inside(value)]
    if layer:
        raise too_deep
    return values


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
