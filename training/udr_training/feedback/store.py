"""Scores on disk: SQLite, keyed by content, so nothing is computed twice and nobody else's score is served."""

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
CREATE TABLE IF NOT EXISTS work (lm INTEGER PRIMARY KEY, pairs INTEGER, tokens INTEGER, cut INTEGER, seconds REAL);
"""
_FORMAT = 2


@dataclass(frozen=True, slots=True)
class PairKey:
    """What a pair's score depends on, beside the language model: the texts as it reads them.

    Attributes:
        demonstration: everything before the query: instruction and demonstration.
        query: the query and its options.
    """

    demonstration: bytes
    query: bytes

    @staticmethod
    def of(demonstration: Sequence[str], query: str, options: Sequence[str]) -> "PairKey":
        """Return the key of a pair from its texts."""
        return PairKey(_digest(*demonstration), _digest(query, *options))


@dataclass(frozen=True, slots=True)
class Work:
    """What scores have cost.

    Attributes:
        pairs: scored; more than are stored where some were scored twice.
        tokens: of their prompts and options, each prompt counted by itself.
        cut: pairs whose demonstrations lost text to the model's window.
        seconds: in the language model.
    """

    pairs: int = 0
    tokens: int = 0
    cut: int = 0
    seconds: float = 0.0


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

    Raises:
        FeedbackError: the file is no such store.
    """

    def __init__(self, path: Path, lm: str, dtype: str, wording: str) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Runs that share a file wait for one another.
            self._connection = sqlite3.connect(path, timeout=60)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            found = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if found not in (0, _FORMAT):
                raise FeedbackError(f"{path}: feedback of format {found}; this version of udr reads {_FORMAT}")
            self._connection.executescript(_SCHEMA + f"PRAGMA user_version={_FORMAT};")
        except (sqlite3.Error, OSError) as error:
            raise FeedbackError(f"{path}: not a feedback store: {error}") from error
        with self._connection:
            key = (lm, dtype, wording)
            self._connection.execute("INSERT OR IGNORE INTO lm (fingerprint, dtype, wording) VALUES (?, ?, ?)", key)
        query = "SELECT id FROM lm WHERE fingerprint = ? AND dtype = ? AND wording = ?"
        self._lm = int(self._connection.execute(query, key).fetchone()[0])
        self._ids: dict[bytes, int] = {}

    def __enter__(self) -> "FeedbackStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; everything written is on disk."""
        self._connection.close()

    @property
    def files(self) -> list[Path]:
        """The file, and what SQLite keeps beside it."""
        return sorted(self._path.parent.glob(f"{self._path.name}*"))

    def __len__(self) -> int:
        """Return how many pairs this model has scored."""
        counted = self._connection.execute("SELECT count(*) FROM score WHERE lm = ?", (self._lm,))
        return int(counted.fetchone()[0])

    def get(self, keys: Iterable[PairKey]) -> dict[PairKey, Likelihoods]:
        """Return what is stored of those pairs that have been scored."""
        found = {}
        for key in keys:
            ids = self._id(key.demonstration), self._id(key.query)
            row = self._connection.execute(
                "SELECT log_likelihoods, num_tokens FROM score JOIN options USING (lm, query) "
                "WHERE lm = ? AND demonstration = ? AND query = ?",
                (self._lm, *ids),
            ).fetchone()
            if row is not None:
                num_tokens = tuple(np.frombuffer(row[1], dtype="<u2").tolist())
                found[key] = Likelihoods(np.frombuffer(row[0], dtype="<f4"), num_tokens)
        return found

    @property
    def work(self) -> Work:
        """What this model's scores have cost, all runs that share the file together."""
        query = "SELECT pairs, tokens, cut, seconds FROM work WHERE lm = ?"
        row = self._connection.execute(query, (self._lm,)).fetchone()
        return Work(*row) if row is not None else Work()

    def put(self, scores: Mapping[PairKey, Likelihoods], work: Work | None = None) -> None:
        """Store what a model said and what it has cost, and commit: a kill after this loses none of them."""
        with self._connection:
            if work is not None:
                self._connection.execute(
                    "INSERT INTO work VALUES (?, ?, ?, ?, ?) ON CONFLICT (lm) DO UPDATE SET pairs = pairs + "
                    "excluded.pairs, tokens = tokens + excluded.tokens, cut = cut + excluded.cut, "
                    "seconds = seconds + excluded.seconds",
                    (self._lm, work.pairs, work.tokens, work.cut, work.seconds),
                )
            for digest in {digest for key in scores for digest in (key.demonstration, key.query)}:
                self._connection.execute("INSERT OR IGNORE INTO text (digest) VALUES (?)", (digest,))
            self._connection.executemany(
                "INSERT OR REPLACE INTO options VALUES (?, ?, ?)",
                [
                    (self._lm, self._id(query), np.array(num_tokens, dtype="<u2").tobytes())
                    for query, num_tokens in {key.query: said.num_tokens for key, said in scores.items()}.items()
                ],
            )
            self._connection.executemany(
                "INSERT OR REPLACE INTO score VALUES (?, ?, ?, ?)",
                [
                    (self._lm, self._id(key.demonstration), self._id(key.query), said.sums.astype("<f4").tobytes())
                    for key, said in scores.items()
                ],
            )

    def _id(self, digest: bytes) -> int | None:
        if digest not in self._ids:
            row = self._connection.execute("SELECT id FROM text WHERE digest = ?", (digest,)).fetchone()
            if row is None:
                return None
            self._ids[digest] = int(row[0])
        return self._ids[digest]
