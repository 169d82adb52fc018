"""Scores on disk: SQLite, keyed by content and language model, so that nothing is computed twice."""

import hashlib
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from udr.errors import FeedbackError, reason
from udr.files import check_format
from udr.store import check_schema, distrust
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
# The number of a text, or NULL, in a statement.
_ID = "(SELECT id FROM text WHERE digest = ?)"
_FORMAT = 2
# SQLite's application id of a store: "udrF".
_APPLICATION = 0x75647246
_WAIT_SECONDS = 60.0
"""Seconds that runs with the same file wait for one another."""


@dataclass(frozen=True, slots=True)
class PairKey:
    """The key of a pair's score: a hash of the texts before the query, and one of the query and its options."""

    demonstration: bytes
    query: bytes

    @staticmethod
    def of(demonstration: Sequence[str], query: str, options: Sequence[str]) -> "PairKey":
        """Return the key of a pair from its texts: those before the query, the query, and its options."""
        return PairKey(_digest(*demonstration), _digest(query, *options))


def _digest(*texts: str) -> bytes:
    # The lengths keep ("ab", "c") and ("a", "bc") apart. 16 bytes: a chance in 10^22 at 100 million texts.
    joined = b"".join(f"{len(raw)}:".encode() + raw for raw in (text.encode() for text in texts))
    return hashlib.blake2b(joined, digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Work:
    """The cost of scores.

    Attributes:
        pairs: scored pairs; more than are stored if some were scored twice.
        tokens: of their prompts and options, without sharing.
        cut: pairs whose demonstrations were truncated.
        lost: the truncated tokens.
        seconds: in the language model.
    """

    pairs: int = 0
    tokens: int = 0
    cut: int = 0
    lost: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(*map(sum, zip(astuple(self), astuple(other), strict=True)))


class FeedbackStore(AbstractContextManager["FeedbackStore"]):
    """One language model's log-likelihoods, in a file that other models' can share.

    Args:
        path: the file; created if missing.
        lm: the model's fingerprint.
        dtype: the precision of its weights.
        wording: the fingerprint of the wording that it reads (``udr.data.formatting.LM_WORDING``).
        read_only: change nothing; the file must exist.

    Raises:
        FeedbackError: here and in all methods: the file is not a feedback store, or cannot be used.
    """

    def __init__(self, path: Path, lm: str, dtype: str, wording: str, *, read_only: bool = False) -> None:
        self._path = path
        model = (lm, dtype, wording)
        with self._errors():
            if read_only:
                self._connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
                distrust(self._connection)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._connection = sqlite3.connect(path, timeout=_WAIT_SECONDS)
                distrust(self._connection)
                self._open()
                with self._connection:
                    insert = "INSERT OR IGNORE INTO lm (fingerprint, dtype, wording) VALUES (?, ?, ?)"
                    self._connection.execute(insert, model)
            select = "SELECT id FROM lm WHERE fingerprint = ? AND dtype = ? AND wording = ?"
            self._lm = self._value(select, model) if self._is_store() else None

    def _open(self) -> None:
        """Create the store, or check that the file is one."""
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
                # SQLite's timeout does not cover a change of the journal mode by another run that opens the file.
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                self._connection.rollback()
                time.sleep(0.05)

    def _is_store(self) -> bool:
        """Return whether the file is a store; a new file is not one yet."""
        # In this order: another run may create the store between the two queries.
        num_tables = self._value("SELECT count(*) FROM sqlite_master")
        if self._value("PRAGMA application_id") != _APPLICATION:
            if num_tables:
                raise FeedbackError(f"{self._path}: not a feedback store: another application's SQLite database")
            return False
        version = self._value("PRAGMA user_version")
        if version != _FORMAT:
            check_format(
                version, _FORMAT, str(self._path), "udr feedback score, with another --feedback", FeedbackError
            )
        check_schema(self._connection, _SCHEMA)
        return True

    def _value(self, query: str, parameters: Sequence[object] = ()) -> int | None:
        row = self._connection.execute(query, parameters).fetchone()
        return int(row[0]) if row else None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            # SQLite reports a file that is not a database by this class itself.
            problem = "not a feedback store" if type(error) is sqlite3.DatabaseError else "cannot be used"
            raise FeedbackError(f"{self._path}: {problem}: {reason(error)}") from error

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; everything written is on disk."""
        self._connection.close()

    @property
    def num_bytes(self) -> int:
        """The size of the file and of SQLite's files beside it."""
        files = [self._path.with_name(self._path.name + ending) for ending in ("", "-wal", "-shm")]
        return sum(file.stat().st_size for file in files if file.exists())

    @staticmethod
    def most_bytes(pairs: int, queries: int, options: int) -> float:
        """Return how large the scores of pairs become at most, apart from an empty file's 40 kB.

        Pages that are written in any order are not full, so a number of four bytes takes 5.5.
        """
        return 20 * pairs + 60 * queries + 5.5 * options * (pairs + queries)

    def __len__(self) -> int:
        """Return the number of pairs that this model has scored."""
        with self._errors():
            return self._value("SELECT count(*) FROM score WHERE lm = ?", (self._lm,)) or 0

    def get(self, keys: Iterable[PairKey]) -> dict[PairKey, Likelihoods]:
        """Return the stored likelihoods of the scored pairs among ``keys``."""
        stored: dict[PairKey, Likelihoods] = {}
        if self._lm is None:
            return stored
        with self._errors():
            for key in keys:
                row = self._connection.execute(
                    "SELECT log_likelihoods, num_tokens FROM score JOIN options USING (lm, query) "
                    f"WHERE lm = ? AND demonstration = {_ID} AND query = {_ID}",
                    (self._lm, key.demonstration, key.query),
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
        """
        digests = {digest for key in scores for digest in (key.demonstration, key.query)}
        num_tokens = {key.query: np.array(item.num_tokens, dtype="<u4").tobytes() for key, item in scores.items()}
        sums = [
            (self._lm, key.demonstration, key.query, item.sums.astype("<f4").tobytes()) for key, item in scores.items()
        ]
        with self._errors(), self._connection:
            if work is not None:
                self._connection.execute(
                    "INSERT INTO work VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (lm) DO UPDATE SET "
                    "pairs = pairs + excluded.pairs, tokens = tokens + excluded.tokens, cut = cut + excluded.cut, "
                    "lost = lost + excluded.lost, seconds = seconds + excluded.seconds",
                    (self._lm, *astuple(work)),
                )
            insert = self._connection.executemany
            insert("INSERT OR IGNORE INTO text (digest) VALUES (?)", [(digest,) for digest in digests])
            options = [(self._lm, query, blob) for query, blob in num_tokens.items()]
            insert(f"INSERT OR IGNORE INTO options VALUES (?, {_ID}, ?)", options)
            insert(f"INSERT OR IGNORE INTO score VALUES (?, {_ID}, {_ID}, ?)", sums)
