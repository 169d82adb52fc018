"""Typed access to the keys of an object in a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from udr.errors import DataError, brief


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a TOML file or of a row; errors name the file, the line and the key."""

    values: Mapping[str, object]
    path: Path | None
    line: int | None = None

    def error(self, key: str, message: str) -> DataError:
        """Return the error for an invalid key."""
        return DataError(message, path=self.path, line=self.line, field=key)

    def refuse_unknown(self, known: tuple[str, ...]) -> None:
        """Raise ``DataError`` if there is a key other than these."""
        for key in self.values:
            if key not in known:
                raise self.error(key, f"unknown key; the known keys are {', '.join(known)}")

    def text(self, key: str, *, empty: bool = False) -> str:
        """Return a required string, which may be blank only if ``empty``."""
        if key not in self.values:
            raise self.error(key, "is missing")
        value = self.values[key]
        if not isinstance(value, str) or not (empty or value.strip()):
            raise self.error(key, f"must be a non-empty string, found {brief(value)}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a required list of non-empty strings."""
        value = self.values.get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
            raise self.error(key, f"must be a list of non-empty strings, found {brief(value)}")
        return tuple(value)

    def check_distinct(self, key: str, texts: tuple[str, ...]) -> None:
        """Raise ``DataError`` unless there are at least two texts, all different."""
        if len(texts) < 2 or len(set(texts)) < len(texts):
            raise self.error(key, f"must be at least two different {key}, found {brief(list(texts))}")
