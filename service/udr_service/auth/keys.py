"""API keys: a TOML file lists their names, scopes and SHA-256, and never holds the keys themselves.

Each is an entry ``[[keys]]`` with ``name = "…"``, ``scope = "read"`` or ``"admin"``, and ``sha256 = "…"``.
"""

import hashlib
import hmac
import os
import re
import secrets
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Self

from udr.errors import ConfigError
from udr.files import write_atomically

PREFIX = "udr_"
"""What every key that we make begins with, so that a key in the wrong place can be told from other text."""

_FIELDS = ("name", "scope", "sha256")
# Shorter than any key of ours: a key that was pasted as a name is none.
_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PLAIN_KEY = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{32,}}")
_NEVER_PLAIN = "a key itself must not stand in the file, only its SHA-256; make a new key with: udr keys new"


class Scope(StrEnum):
    """What a key may be used for."""

    READ = "read"
    ADMIN = "admin"

    def includes(self, needed: "Scope") -> bool:
        """Say whether this scope does for what needs another; ``admin`` does for all."""
        return self is needed or self is Scope.ADMIN


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyEntry:
    """What the file says of one key.

    Attributes:
        name: tells whose key it is; shown in logs.
        scope: what it may be used for.
        sha256: of the key, in lowercase hex.

    Raises:
        ConfigError: a value makes no sense.
    """

    name: str
    scope: Scope
    sha256: str = field(repr=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"name must be 1 to 32 letters, digits, '.', '_' or '-'; found {_shown(self.name)}")
        if not _DIGEST.fullmatch(self.sha256):
            raise ConfigError(
                f"sha256 must be 64 hexadecimal digits; found {len(self.sha256)} characters; {_NEVER_PLAIN}"
            )
        # What a shell makes of a variable that is not set.
        if self.sha256 == _digest(""):
            raise ConfigError("sha256 is that of an empty text, which is no key; make one with: udr keys new")

    def to_toml(self) -> str:
        """Return the entry as it stands in the file."""
        return f'[[keys]]\nname = "{self.name}"\nscope = "{self.scope}"\nsha256 = "{self.sha256}"\n'


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys that are taken.

    Attributes:
        entries: one for each key, at least one.

    Raises:
        ConfigError: there is none, or two have the same name or hash.
    """

    entries: tuple[KeyEntry, ...]

    def __post_init__(self) -> None:
        if not self.entries:
            raise ConfigError("holds no keys; add one with: udr keys new --name NAME --scope read --file FILE")
        _refuse_twice("name", [entry.name for entry in self.entries])
        _refuse_twice("sha256", [entry.sha256 for entry in self.entries])

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the keys that a file's text lists.

        Raises:
            ConfigError: it lists none, holds a key itself, or makes no sense otherwise; no message shows a key.
        """
        # First, and in comments too: what parsers say of a line may quote it.
        if found := _PLAIN_KEY.search(text):
            line = text.count("\n", 0, found.start()) + 1
            raise ConfigError(f"line {line} holds what seems to be a key; {_NEVER_PLAIN}")
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"is not TOML: {error}") from error
        tables = document.pop("keys", [])
        if document:
            raise ConfigError(f"unknown {', '.join(map(_shown, document))}; the file has only entries [[keys]]")
        if not isinstance(tables, list):
            raise ConfigError(f"'keys' must be entries, each below a line [[keys]]; found {_kind(tables)}")
        return cls(tuple(_entry(number, table) for number, table in enumerate(tables, start=1)))

    def entry_of(self, presented: str) -> KeyEntry | None:
        """Return the entry of a key, or None if it is not ours.

        Every entry is compared, and each in constant time, so that the time taken tells nothing of them.
        """
        digest, found = _digest(presented), None
        for entry in self.entries:
            if hmac.compare_digest(digest, entry.sha256):
                found = entry
        return found


class KeyFile:
    """A file of keys, and what it held when it was last read.

    Args:
        path: the file.

    Attributes:
        path: the file.
        ring: the keys that are taken.

    Raises:
        ConfigError: see ``read``.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.ring = path, self.read(path)

    @staticmethod
    def read(path: Path) -> KeyRing:
        """Return the keys that a file lists.

        Raises:
            ConfigError: it cannot be read, lists no keys, or makes no sense.
        """
        with _naming(path):
            if not path.exists():
                raise ConfigError(f"no such file; begin one with: udr keys new --name NAME --scope read --file {path}")
            return KeyRing.parse(path.read_text("utf-8"))

    def reload(self) -> KeyRing:
        """Read the file again and take its keys from now on; when that fails, the old ones stay.

        Raises:
            ConfigError: see ``read``.
        """
        self.ring = self.read(self.path)
        return self.ring


def new_key(name: str, scope: Scope) -> tuple[str, KeyEntry]:
    """Return a new key, which is kept nowhere, and its entry.

    Raises:
        ConfigError: the name cannot be one.
    """
    key = PREFIX + secrets.token_urlsafe(32)
    return key, KeyEntry(name=name, scope=scope, sha256=_digest(key))


def append(path: Path, entry: KeyEntry) -> None:
    """Add an entry to a file of keys, or begin one; none but its owner may read it then.

    Raises:
        ConfigError: the file makes no sense, or has the name already; it is left as it was.
    """
    with _naming(path):
        before = path.read_text("utf-8").rstrip() if path.exists() else ""
        text = f"{before}\n\n{entry.to_toml()}".lstrip()
        KeyRing.parse(text)

        def write(stream: BinaryIO) -> None:
            # Before there is anything to read.
            os.fchmod(stream.fileno(), 0o600)
            stream.write(text.encode())

        write_atomically(path, write)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file before whatever is wrong with it."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8: byte {error.start} ({error.reason})") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def _entry(number: int, table: object) -> KeyEntry:
    try:
        if not isinstance(table, dict):
            raise ConfigError(f"must be a table; found {_kind(table)}")
        if unknown := [name for name in table if name not in _FIELDS]:
            known = ", ".join(_FIELDS)
            raise ConfigError(f"unknown {', '.join(map(_shown, unknown))}; known are {known}; {_NEVER_PLAIN}")
        for name in _FIELDS:
            if not isinstance(table.get(name), str):
                raise ConfigError(f"{name} must be text; found {_kind(table.get(name))}")
        if table["scope"] not in list(Scope):
            raise ConfigError(f"scope must be {' or '.join(Scope)}; found {_shown(table['scope'])}")
        return KeyEntry(name=table["name"], scope=Scope(table["scope"]), sha256=table["sha256"].lower())
    except ConfigError as error:
        raise ConfigError(f"entry {number} of [[keys]]: {error}") from error


def _refuse_twice(what: str, values: Sequence[str]) -> None:
    for number, value in enumerate(values):
        if value in values[:number]:
            first = values.index(value) + 1
            raise ConfigError(
                f"entries {first} and {number + 1} of [[keys]] have the same {what}; change or remove one"
            )


def _digest(key: str) -> str:
    # A text that is no Unicode is no key either, but must not fail otherwise than others.
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _shown(value: str) -> str:
    # What is longer may be a key of somebody's, in the wrong place.
    return repr(value) if len(value) <= 32 else f"{len(value)} characters"


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
