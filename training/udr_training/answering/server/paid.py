"""Answers on disk, by a hash of what was asked: SQLite, so that no answer that was paid for is asked for twice."""

import fcntl
import hashlib
import json
import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import astuple
from functools import cached_property
from pathlib import Path

from udr.errors import ArtifactError, reason
from udr.files import canonical_json, open_lock
from udr.store import check_schema, distrust
from udr.types import Json
from udr_training.answering.server.budget import Spend
from udr_training.answering.server.replies import Reply

_LOG = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE answer (key BLOB PRIMARY KEY, reply TEXT) WITHOUT ROWID;
CREATE TABLE spend (id INTEGER PRIMARY KEY, requests INTEGER, prompt_tokens INTEGER, completion_tokens INTEGER,
    estimated INTEGER);
CREATE TABLE model (url TEXT PRIMARY KEY, name TEXT);
"""
_FORMAT = 1
# SQLite's application id of the file: "udrA".
_APPLICATION = 0x75647241
_WAIT_SECONDS = 60.0
_IN_MEMORY = Path(":memory:")


def answer_key(url: str, path: str, body: Mapping[str, Json], sample: int = 0) -> bytes:
    """Return the key of an answer: a hash of all that it depends on, and of its number among several samples."""
    return hashlib.blake2b(canonical_json([url, path, dict(body), sample]), digest_size=16).digest()


class PaidAnswers(AbstractContextManager["PaidAnswers"]):
    """The answers of servers, what they cost, and the names of the only models of servers.

    Each answer is committed when it arrives. Several processes can share the file, and take turns to ask.

    Args:
        path: the file; created if missing. None keeps the answers in memory.

    Raises:
        ArtifactError: in all methods: the file is something else, or cannot be used.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or _IN_MEMORY
        self._waited = False

    @cached_property
    def _connection(self) -> sqlite3.Connection:
        """The file, opened when it is first needed: a command may refuse its directory before."""
        if self.path != _IN_MEMORY:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=_WAIT_SECONDS, isolation_level=None)
        try:
            distrust(connection)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            _create(connection)
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if (application, version) != (_APPLICATION, _FORMAT):
                raise ArtifactError(f"{self.path}: is not a file of answers that this version of udr reads; move it")
            check_schema(connection, _SCHEMA)
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise ArtifactError(f"{self.path}: cannot be used as a file of answers: {reason(error)}") from error

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; everything is on disk."""
        if "_connection" in self.__dict__:
            self._connection.close()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Keep others with the same file from asking in the block; wait until they let this one, or die.

        Else two would pay for the same answers, and exceed a budget that they share. A file beside it is locked, since
        SQLite loses its own locks when another descriptor of its file is closed.
        """
        if self.path == _IN_MEMORY:
            yield
            return
        with self._errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = open_lock(self.path.with_name(f"{self.path.name}.lock"))
        try:
            with self._errors():
                self._lock(lock)
            yield
        finally:
            os.close(lock)

    def _lock(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not self._waited:
                _LOG.info("another command asks, and keeps its answers in %s; this one takes turns with it", self.path)
                self._waited = True
            fcntl.flock(lock, fcntl.LOCK_EX)

    @property
    def kept(self) -> str:
        """What an error says of the answers so far."""
        if self.path == _IN_MEMORY:
            return "no answer was kept, since there is no output directory"
        return "what was answered is kept"

    def get(self, key: bytes) -> Reply | None:
        """Return an answer; None if it was not asked for."""
        with self._errors():
            row = self._connection.execute("SELECT reply FROM answer WHERE key = ?", (key,)).fetchone()
        return None if row is None else Reply.from_json(json.loads(row[0]))

    def put(self, key: bytes, reply: Reply, spend: Spend) -> None:
        """Store an answer and what it cost, beside its request."""
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            text = canonical_json(reply.to_json()).decode()
            self._connection.execute("INSERT OR IGNORE INTO answer VALUES (?, ?)", (key, text))
            self._add(spend)
            self._connection.execute("COMMIT")

    def forget(self, key: bytes) -> None:
        """Drop an answer, if it is there; what it cost stays spent."""
        with self._errors():
            self._connection.execute("DELETE FROM answer WHERE key = ?", (key,))

    def add(self, spend: Spend) -> None:
        """Add to what was spent."""
        with self._errors():
            self._add(spend)

    def _add(self, spend: Spend) -> None:
        self._connection.execute(
            "UPDATE spend SET requests = requests + ?, prompt_tokens = prompt_tokens + ?, "
            "completion_tokens = completion_tokens + ?, estimated = estimated + ?",
            astuple(spend),
        )

    @property
    def spend(self) -> Spend:
        """What all answers in the file have cost."""
        with self._errors():
            row = self._connection.execute(
                "SELECT requests, prompt_tokens, completion_tokens, estimated FROM spend"
            ).fetchone()
        return Spend(*row)

    def model(self, url: str) -> str | None:
        """Return the name of a server's only model when it was asked; empty if the server did not tell."""
        with self._errors():
            row = self._connection.execute("SELECT name FROM model WHERE url = ?", (url,)).fetchone()
        return None if row is None else str(row[0])

    def set_model(self, url: str, name: str) -> None:
        """Keep the name of a server's only model."""
        with self._errors():
            self._connection.execute("INSERT OR IGNORE INTO model VALUES (?, ?)", (url, name))


def _create(connection: sqlite3.Connection) -> None:
    """Create the tables, unless the file has some."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in filter(str.strip, _SCHEMA.split(";")):
                connection.execute(statement)
            connection.execute("INSERT INTO spend VALUES (0, 0, 0, 0, 0)")
            connection.execute(f"PRAGMA application_id={_APPLICATION}")
            connection.execute(f"PRAGMA user_version={_FORMAT}")
    finally:
        connection.execute("COMMIT")
