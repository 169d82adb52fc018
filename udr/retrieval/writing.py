"""Writing to a pool: rows checked and worded as a build does, and pages of the rows that are there."""

import base64
import binascii
import hashlib
import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np

from udr.data import Filter, FilterLike, Task, demonstration_text, encoder_demonstration, parse_row, text_key
from udr.errors import DataError, InvalidInputError, UdrError, brief
from udr.models import LoadedTokenizer, load_tokenizer
from udr.search import Vectors
from udr.store import IndexVersion
from udr.store.live import MAX_KEY, Change, View
from udr.types import Json, Row, plain, plain_number

MAX_PAGE = 1000
"""The maximum number of rows of a page."""

RowLike: TypeAlias = Row | Mapping[str, Json]
"""A row, or its JSON object."""


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A change whose rows are not encoded yet.

    Attributes:
        change: the change, without vectors.
        texts: what the encoder must read; equal texts once, and none that the version has a vector of.
        keys: the key of each row's text.
        known: the vectors that the version has, by key.
        new: the keys of ``texts``.
    """

    change: Change
    texts: Sequence[str] = ()
    keys: Sequence[bytes] = ()
    known: Mapping[bytes, Vectors] | None = None
    new: Sequence[bytes] = ()

    def complete(self, vectors: Iterable[Vectors]) -> Change:
        """Return the change with the vectors of ``texts``, float32 [dimension] each."""
        if not self.keys:
            return self.change
        known = {**(self.known or {}), **dict(zip(self.new, vectors, strict=True))}
        return replace(self.change, vectors=np.stack([known[key] for key in self.keys]).astype(np.float32))


class Drafting:
    """Checks and words what is to be written to a version; thread-safe."""

    def __init__(self, version: IndexVersion) -> None:
        self._version = version
        self._tasks = {name: part.task for name, part in version.manifest.partitions.items()}
        # Tokenizers are not thread-safe.
        self._counting = threading.Lock()

    @cached_property
    def _tokenizer(self) -> LoadedTokenizer | None:
        """The tokenizer that counted the version's tokens, if the version has it; else prompts count tokens."""
        stamp, path = self._version.manifest.tokenizer, self._version.tokenizer
        if stamp is None or path is None:
            return None
        try:
            loaded = load_tokenizer(path)
        except UdrError:
            return None
        return loaded if loaded.fingerprint == stamp.fingerprint else None

    def put(self, view: View, change: Change, rows: RowLike | Sequence[RowLike]) -> Draft:
        """Return the draft of a change that puts rows.

        Raises:
            InvalidInputError: a row does not fit the task, an id occurs twice, or a row is outside of ``within``.
        """
        task, found = self._tasks[change.task], dict[str, Row]()
        given = [rows] if isinstance(rows, Row | Mapping) else list(rows)
        for number, item in enumerate(given, start=1):
            try:
                row = _row(task, item)
                if row.id in found:
                    raise InvalidInputError(f"the id {brief(row.id)} occurs twice")
                if change.within is not None and not change.within.matches(task.name, row):
                    raise InvalidInputError(f"the row {brief(row.id)} is not one that this key is for")
            except (DataError, InvalidInputError) as error:
                where = f"row {number}: " if len(given) > 1 else ""
                raise InvalidInputError(f"{where}{error}") from error
            found[row.id] = row
        texts = [encoder_demonstration(task, row) for row in found.values()]
        keys = [text_key(text) for text in texts]
        by_key, known = dict(zip(keys, texts, strict=True)), dict[bytes, Vectors]()
        for key, text in by_key.items():
            if (vector := view.base.vector_of(task.name, text)) is not None:
                known[key] = vector
        new = [key for key in by_key if key not in known]
        with self._counting:
            counter = self._tokenizer
            shown = [demonstration_text(task, row) for row in found.values()]
            tokens = [None] * len(shown) if counter is None else counter.counts_inside(shown)
        change = replace(change, rows=[*found.values()], tokens=tokens)
        return Draft(change, [by_key[key] for key in new], keys, known, new)


def deletion(change: Change, ids: str | Sequence[str] | None, filter: FilterLike | None) -> Change:
    """Return a change that deletes rows by id or by a filter; ``InvalidInputError`` unless one of them is given."""
    if (ids is None) == (filter is None):
        raise InvalidInputError("give either the ids to delete, or a filter of the rows to delete")
    if filter is not None:
        return replace(change, delete=Filter.of(filter))
    listed = [ids] if isinstance(ids, str) else list(ids or ())
    if not all(isinstance(id, str) for id in listed):
        raise InvalidInputError(f"the ids to delete must be texts, found {brief(listed)}")
    return replace(change, delete=list(dict.fromkeys(listed)))


def asked_to_delete(change: Change) -> Json:
    """Return the ids or the filter of what a change deletes."""
    return change.delete.to_json() if isinstance(change.delete, Filter) else [*change.delete]


def with_key(change: Change, key: str | None, asked: Json) -> Change:
    """Return a change that is done once for a client's key; ``asked`` is what the client asks."""
    if key is None:
        return change
    if not 1 <= len(key) <= MAX_KEY:
        raise InvalidInputError(f"an Idempotency-Key must have 1 to {MAX_KEY} characters, found {len(key)}")
    _check_unicode(key)
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]
    return replace(change, key=key, digest=digest)


def _row(task: Task, item: RowLike) -> Row:
    row = parse_row(task, plain(item.to_json() if isinstance(item, Row) else item))
    _check_unicode(json.dumps(row.to_json(), ensure_ascii=False))
    return row


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError("a text is not valid Unicode: it contains a lone surrogate") from error


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of a task, in the order of their ids.

    Attributes:
        rows: the rows.
        next: where the next page starts, for ``after``; None if there is none.
    """

    rows: tuple[Row, ...]
    next: str | None = None


def page(
    view: View, task: str, after: str | None, limit: int, filter: Filter | None, within: Filter | None = None
) -> Page:
    """Return a page of a task's rows; ``after`` is the ``next`` of the page before, ``within`` as in ``View.masks``.

    Rows that are put or deleted meanwhile neither repeat nor hide others, since pages are by id.

    Raises:
        InvalidInputError: the limit is out of range, or ``after`` is of another list or version.
    """
    limit = plain_number(limit)
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_PAGE:
        raise InvalidInputError(f"limit must be from 1 to {MAX_PAGE}, found {brief(limit)}")
    version, listed = view.base.manifest.version, _list_of(task, within.narrowed(filter) if within else filter)
    start = None if after is None else _id_of(after, version, listed)
    rows = view.page(task, filter, start, limit + 1, within)
    more = len(rows) > limit
    return Page(tuple(rows[:limit]), _cursor(version, listed, rows[limit - 1].id) if more else None)


def _list_of(task: str, filter: Filter | None) -> str:
    asked: Json = [task, None if filter is None else filter.to_json()]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def _cursor(version: str, listed: str, id: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([version, listed, id]).encode()).decode().rstrip("=")


def _id_of(cursor: str, version: str, listed: str) -> str:
    try:
        content = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        of_version, of_list, id = map(str, content)
    except (ValueError, TypeError, binascii.Error, RecursionError) as error:
        raise InvalidInputError("after must be the next of an earlier page; found something else") from error
    if of_list != listed:
        raise InvalidInputError("after is of a list of another task or with another filter; begin without it")
    if of_version != version:
        raise InvalidInputError(f"after is of version {of_version[:40]!r}, but {version!r} answers; begin without it")
    return id
