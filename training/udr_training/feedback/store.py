"""Scores on disk: SQLite, keyed by content and language model, so that nothing is computed twice."""

import hashlib
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from udr.errors import FeedbackError
from udr_training.feedback.packing import Likelihoods

_SCHEMA = """
CREATE TABLE IF NOT EXISTS lm (id INTEGER PRIMARY KEY, fingerprint TEXT, dtype TEXT, wording TEXT,
    UNIQUE (fingerprint, dtype, wording));
CREATE TABLE IF NOT EXISTS text (id INTEGER PRIMARY KEY, digest BLOB UNIQUE);
CREATE TABLE IF NOT EXISTS options (lm INTEGER, query INTEGER, num_tokens BLOB, PRIMARY KEY (lm, query)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS score (lm INTEGER, demonstration INTEGER, query INTEGER, log_likelihoods BLOB,
    PRIMARY KEY (lm, demonstration, query)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS work (lm INTEGER PRIMARY KEY, pairs INTEGER, tokens INTEGER, cut INTEGER, lost INTEGER,
    seconds REAL);
"""
_FORMAT = 2
# SQLite's application id of a store: "udrF".
_APPLICATION = 0x75647246
_WAIT_SECONDS = 60.0
"""Seconds that runs with the same file wait for one another."""


@dataclass(frozen=True, slots=True)
class PairKey:
    """The key of a pair's score: hashes of the texts that the language model reads.

    Attributes:
        demonstration: a hash of everything before the query: instruction, context and demonstration.
        query: a hash of the query and its options.
    """

    demonstration: bytes
    query: bytes

    @staticmethod
    def of(demonstration: Sequence[str], query: str, options: Sequence[str]) -> "PairKey":
        """Return the key of a pair from its texts."""
        return PairKey(_digest(*demonstration), _digest(query, *options))


@dataclass(frozen=True, slots=True)
class Work:
    """The cost of scores.

    Attributes:
        pairs: scored pairs; more than are stored if some were scored twice.
        tokens: tokens of their prompts and options, without sharing.
        cut: pairs whose demonstrations were truncated to the model's window.
        lost: the truncated tokens.
        seconds: seconds in the language model.
    """

    pairs: int = 0
    tokens: int = 0
    cut: int = 0
    lost: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        """Return the sum of both costs."""
        return Work(*map(sum, zip(astuple(self), astuple(other), strict=True)))


def _digest(*texts: str) -> bytes:
    # The lengths keep ("ab", "c") and ("a", "bc") apart. 16 bytes: a chance in 10^22 at 100 million texts.
    joined = b"".join(f"{len(raw)}:".encode() + raw for raw in (text.encode() for text in texts))
    return hashlib.blake2b(joined, digest_size=16).digest()


class FeedbackStore:
    """The log-likelihoods that one language model gave, in one file; other models' lie beside them, unseen.

    Args:
        path: the file; made when it does not exist.
        lm: the model's fingerprint.
        dtype: the type of its weights.
        wording: the fingerprint of the wording it reads (``udr.text.LM_WORDING``).
        read_only: change nothing; the file must exist.

    Raises:
        FeedbackError: the file is no such store, or cannot be used.
    """

    def __init__(self, path: Path, lm: str, dtype: str, wording: str, *, read_only: bool = False) -> None:
        self._path = path
        with self._errors():
            key = (lm, dtype, wording)
            if read_only:
                self._connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
                self._lm = self._number_of(key) if self._is_store() else None
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._connection = sqlite3.connect(path, timeout=_WAIT_SECONDS)
                self._open()
                insert = "INSERT OR IGNORE INTO lm (fingerprint, dtype, wording) VALUES (?, ?, ?)"
                with self._connection:
                    self._connection.execute(insert, key)
                self._lm = self._number_of(key)
        self._ids: dict[bytes, int] = {}

    def _open(self) -> None:
        """Make the file a store, or see that it is one."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while True:
            try:
                if not self._is_store():
                    self._connection.execute("PRAGMA journal_mode=WAL")
                    self._connection.executescript(
                        f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id={_APPLICATION}; "
                        f"PRAGMA user_version={_FORMAT}; COMMIT;"
                    )
                self._connection.execute("PRAGMA synchronous=NORMAL")
                return
            except sqlite3.OperationalError as error:
                # SQLite does not wait where a file's journal is being changed, by another run that opens it.
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                self._connection.rollback()
                time.sleep(0.05)

    def _is_store(self) -> bool:
        """Say whether the file is a store already; a new file is none yet."""
        # In this order: another run may make the store between the two.
        num_tables = self._number("SELECT count(*) FROM sqlite_master")
        if self._number("PRAGMA application_id") != _APPLICATION:
            if num_tables:
                raise FeedbackError(f"{self._path}: not a feedback store: a file of SQLite, but somebody else's")
            return False
        version = self._number("PRAGMA user_version")
        if version != _FORMAT:
            raise FeedbackError(f"{self._path}: feedback of format {version}; this version of udr reads {_FORMAT}")
        return True

    def _number_of(self, key: tuple[str, str, str]) -> int | None:
        query = "SELECT id FROM lm WHERE fingerprint = ? AND dtype = ? AND wording = ?"
        row = self._connection.execute(query, key).fetchone()
        return int(row[0]) if row else None

    def _number(self, query: str) -> int:
        return int(self._connection.execute(query).fetchone()[0])

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            what = "cannot be used" if isinstance(error, sqlite3.OperationalError) else "not a feedback store"
            raise FeedbackError(f"{self._path}: {what}: {error}") from error
        except (sqlite3.Error, OSError) as error:
            raise FeedbackError(f"{self._path}: cannot be used: {error}") from error

    def __enter__(self) -> "FeedbackStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; everything written is on disk."""
        self._connection.close()

    @property
    def num_bytes(self) -> int:
        """The size of the file, and of what SQLite keeps beside it."""
        files = [self._path.with_name(self._path.name + ending) for ending in ("", "-wal", "-shm")]
        return sum(file.stat().st_size for file in files if file.exists())

    def __len__(self) -> int:
        """Return how many pairs this model has scored."""
        with self._errors():
            counted = self._connection.execute("SELECT count(*) FROM score WHERE lm = ?", (self._lm,))
            return int(counted.fetchone()[0])

    def get(self, keys: Iterable[PairKey]) -> dict[PairKey, Likelihoods]:
        """Return the stored likelihoods of those pairs that have been scored.

        Raises:
            FeedbackError: the file cannot be read.
        """
        stored: dict[PairKey, Likelihoods] = {}
        if self._lm is None:
            return stored
        with self._errors():
            for key in keys:
                ids = self._id(key.demonstration), self._id(key.query)
                row = self._connection.execute(
                    "SELECT log_likelihoods, num_tokens FROM score JOIN options USING (lm, query) "
                    "WHERE lm = ? AND demonstration = ? AND query = ?",
                    (self._lm, *ids),
                ).fetchone()
                if row is not None:
                    num_tokens = tuple(np.frombuffer(row[1], dtype="<u4").tolist())
                    stored[key] = Likelihoods(np.frombuffer(row[0], dtype="<f4"), num_tokens)
        return stored

    @property
    def work(self) -> Work:
        """The cost of this model's scores, over all runs with the same file."""
        query = "SELECT pairs, tokens, cut, lost, seconds FROM work WHERE lm = ?"
        with self._errors():
            row = self._connection.execute(query, (self._lm,)).fetchone()
        return Work(*row) if row is not None else Work()

    def put(self, scores: Mapping[PairKey, Likelihoods], work: Work | None = None) -> None:
        """Store likelihoods and their cost, and commit.

        A pair that another run has stored in the meantime keeps its numbers, which may already have been read.

        Raises:
            FeedbackError: the file cannot be written.
        """
        try:
            self._put(scores, work)
        except FeedbackError:
            # The rollback also removed the ids of new texts.
            self._ids.clear()
            raise

    def _put(self, scores: Mapping[PairKey, Likelihoods], work: Work | None) -> None:
        with self._errors(), self._connection:
            if work is not None:
                self._connection.execute(
                    "INSERT INTO work VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (lm) DO UPDATE SET "
                    "pairs = pairs + excluded.pairs, tokens = tokens + excluded.tokens, cut = cut + excluded.cut, "
                    "lost = lost + excluded.lost, seconds = seconds + excluded.seconds",
                    (self._lm, *astuple(work)),
                )
            for digest in {digest for key in scores for digest in (key.demonstration, key.query)}:
                self._connection.execute("INSERT OR IGNORE INTO text (digest) VALUES (?)", (digest,))
            self._connection.executemany(
                "INSERT OR IGNORE INTO options VALUES (?, ?, ?)",
                [
                    (self._lm, self._id(query), np.array(num_tokens, dtype="<u4").tobytes())
                    for query, num_tokens in {key.query: item.num_tokens for key, item in scores.items()}.items()
                ],
            )
            self._connection.executemany(
                "INSERT OR IGNORE INTO score VALUES (?, ?, ?, ?)",
                [
                    (self._lm, self._id(key.demonstration), self._id(key.query), item.sums.astype("<f4").tobytes())
                    for key, item in scores.items()
                ],
            )

    def _id(self, digest: bytes) -> int | None:
        if digest not in self._ids:
            row = self._connection.execute("SELECT id FROM text WHERE digest = ?", (digest,)).fetchone()
            if row is None:
                return None
            self._ids[digest] = int(row[0])
        return self._ids[digest]
