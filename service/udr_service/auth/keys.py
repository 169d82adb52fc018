"""API keys: a TOML file lists their names, scopes and SHA-256, never the keys themselves.

Each is an entry ``[[keys]]`` with ``name = "…"``, ``scope = "read"``, ``"write"`` or ``"admin"``, and ``sha256 = "…"``.
An entry may have ``tasks`` and ``families``, the only ones that the key is for, a ``filter`` of the only rows, such as
``filter = 'tenant = "shop"'``, and what its client may take, in place of the service's settings:
``requests_per_second``, ``items_per_second``, ``concurrent_requests`` and ``queue_share``.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import cached_property, lru_cache
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, ValidationError, model_validator

from udr.data import Filter
from udr.errors import ConfigError, DataError, InvalidInputError
from udr.files import parse_toml
from udr_service.auth.access import Scope
from udr_service.auth.grants import Allowance, Pools

PREFIX = "udr_"
"""The start of every key, which tells a key in the wrong place from other text."""

# Shorter than any key: a key pasted as a name is invalid.
_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PLAIN_KEY = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{32,}}")
_NEVER_PLAIN = "the file must not hold a key, only its SHA-256; make a new key with: udr keys new"

_REASONS = {
    "missing": "is missing",
    "extra_forbidden": f"is unknown; an entry of [[keys]] has name, scope and sha256, may have tasks, families, "
    f"filter, requests_per_second, items_per_second, concurrent_requests and queue_share; {_NEVER_PLAIN}",
    "model_type": "must be a table",
    "list_type": "must be entries, each below a line [[keys]]",
}


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("must be 1 to 32 letters, digits, '.', '_' or '-'")
    return name


def _check_digest(digest: str) -> str:
    digest = digest.lower()
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"must be 64 hexadecimal digits; found {len(digest)} characters; {_NEVER_PLAIN}")
    # The SHA-256 of an unset shell variable.
    if digest == _sha256(""):
        raise ValueError("is the SHA-256 of an empty text; make a key with: udr keys new")
    return digest


# A filter is parsed once, not at each request.
_filter = lru_cache(maxsize=1024)(Filter.of)


def _check_filter(text: str | None) -> str | None:
    try:
        if text is not None:
            text.encode()
            _filter(text)
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode: it contains a lone surrogate") from None
    except InvalidInputError as error:
        raise ValueError(f"is no filter: {error}") from None
    return text


Name = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class KeyEntry(_Model):
    """One key in the file. Logs show its ``name``; ``sha256`` is in lowercase hex."""

    name: Annotated[str, AfterValidator(_check_name)]
    scope: Annotated[Scope, Strict(False)]
    sha256: Annotated[str, AfterValidator(_check_digest)] = Field(repr=False)
    tasks: list[Name] = []
    families: list[Name] = []
    filter: Annotated[str | None, AfterValidator(_check_filter)] = None
    requests_per_second: Annotated[float | None, Field(ge=0, allow_inf_nan=False)] = None
    items_per_second: Annotated[float | None, Field(ge=0, allow_inf_nan=False)] = None
    concurrent_requests: Annotated[int | None, Field(ge=0)] = None
    queue_share: Annotated[float | None, Field(gt=0, le=1)] = None

    @property
    def pools(self) -> Pools:
        """The tasks that the key is for."""
        return Pools(frozenset(self.tasks), frozenset(self.families))

    @property
    def rows(self) -> Filter | None:
        """The filter of the only rows that the key is for; None for all."""
        return None if self.filter is None else _filter(self.filter)

    def allowance(self, default: Allowance) -> Allowance:
        """Return what its client may take: ``default``, but for what the entry sets."""
        own = {field.name: getattr(self, field.name) for field in fields(Allowance)}
        return replace(default, **{name: value for name, value in own.items() if value is not None})

    def to_toml(self) -> str:
        """Return the entry as the file shows it."""
        # TOML has no halves of characters, which JSON makes of those beyond U+FFFF; and unlike JSON, it escapes U+007F.
        values = self.model_dump(exclude_defaults=True)
        texts = {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}
        lines = [f"{name} = {text}".replace("\x7f", r"\u007f") for name, text in texts.items()]
        return "\n".join(["[[keys]]", *lines, ""])


class KeyRing(_Model):
    """The content of a file of keys: one entry per key, at least one, with distinct names and hashes."""

    keys: list[KeyEntry] = []

    @model_validator(mode="after")
    def _keys_are_distinct(self) -> Self:
        if not self.keys:
            raise ValueError("holds no keys; add one with: udr keys new --name NAME --scope read --file FILE")
        for field in ("name", "sha256"):
            numbers = dict[str, int]()
            for number, entry in enumerate(self.keys, start=1):
                if (first := numbers.setdefault(getattr(entry, field), number)) != number:
                    raise ValueError(f"entries {first} and {number} have the same {field}; change or remove one")
        return self

    @cached_property
    def _by_hash(self) -> dict[str, KeyEntry]:
        return {entry.sha256: entry for entry in self.keys}

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the keys that a file's text lists; raise a ``ConfigError``, which shows no key, if it is invalid."""
        # First, and in comments too: the parser's messages may quote a line.
        if match := _PLAIN_KEY.search(text):
            line = text.count("\n", 0, match.start()) + 1
            raise ConfigError(f"line {line} holds what seems to be a key; {_NEVER_PLAIN}")
        try:
            document = parse_toml(text)
        except DataError as error:
            raise ConfigError(f"is {error}") from error
        with _config_errors():
            return cls.model_validate(document)

    def entry_of(self, presented: str) -> KeyEntry | None:
        """Return the entry of a key, or None if it is unknown.

        It looks up the hash, so its duration tells nothing of a key: who can choose a hash's start still knows no key.
        """
        return self._by_hash.get(_sha256(presented))


def changes(before: KeyRing, after: KeyRing) -> dict[str, list[str]]:
    """Return the names of the keys that were ``added``, ``removed`` or ``changed``, each only if there are any."""
    old, new = ({entry.name: entry for entry in ring.keys} for ring in (before, after))
    names = {
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "changed": [name for name in new if name in old and new[name] != old[name]],
    }
    return {change: found for change, found in names.items() if found}


def new_key(
    name: str, scope: Scope, tasks: Sequence[str] = (), families: Sequence[str] = (), filter: str | None = None
) -> tuple[str, KeyEntry]:
    """Return a new key, which is stored nowhere, and its entry; with tasks or families it is only for them.

    With a filter, such as ``tenant = "shop"``, it is only for the rows that pass.

    Raises:
        ConfigError: the name is invalid.
    """
    key = PREFIX + secrets.token_urlsafe(32)
    with _config_errors():
        entry = KeyEntry(
            name=name, scope=scope, sha256=_sha256(key), tasks=[*tasks], families=[*families], filter=filter
        )
    return key, entry


@contextmanager
def _config_errors() -> Iterator[None]:
    """Report the first of pydantic's errors, and drop the chain: its own text may show a key."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ", ".join(f"entry {part + 1}" if isinstance(part, int) else _shown(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        message = _REASONS.get(first["type"], reason)
        # Never the value of another field, which may be a key.
        value = first["input"] if first["loc"][-1:] in (("name",), ("scope",)) else None
        found = f"; found {_shown(value)}" if isinstance(value, str) else ""
        raise ConfigError(f"{place}: {message}{found}" if place else message) from None


def _sha256(key: str) -> str:
    # Lone surrogates are not part of any key, but must not raise.
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _shown(text: str) -> str:
    """Return what an error shows of a text: a longer one may be a key in the wrong place."""
    return repr(text) if len(text) <= 32 else f"{len(text)} characters"
