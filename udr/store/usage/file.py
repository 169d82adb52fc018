"""The file of a service's use: SQLite, to which several processes add; every method is one transaction."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

from udr.errors import ArtifactError, InvalidInputError, StorageError, UnknownPromptError, listed, reason
from udr.files import check_format
from udr.store.untrusted import check_schema, distrust, refuse_outside
from udr.store.usage.types import Count, PromptOutcome, ShownPrompt, TaskTotal, Told

USAGE = "usage.sqlite"

_FORMAT = 1
# SQLite's application id: "udrU".
_APPLICATION = 0x75647255
_WAIT_SECONDS = 5.0
_LOOKED_UP = 500
"""Ids that one statement looks up."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS count (task TEXT, id TEXT, retrieved INTEGER, shown INTEGER, PRIMARY KEY (task, id))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS total (task TEXT PRIMARY KEY, prompts INTEGER, since REAL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS prompt (number INTEGER PRIMARY KEY, prompt_id TEXT UNIQUE, task TEXT, owner TEXT,
    seconds REAL, ids TEXT, input TEXT, score REAL, target TEXT);
CREATE INDEX IF NOT EXISTS age ON prompt (seconds);
CREATE INDEX IF NOT EXISTS waiting ON prompt (number) WHERE score IS NULL;
CREATE INDEX IF NOT EXISTS told ON prompt (number) WHERE score IS NOT NULL;
"""
_TOO_MANY = """
DELETE FROM prompt WHERE score IS {is_null} AND number <=
    (SELECT number FROM prompt WHERE score IS {is_null} ORDER BY number DESC LIMIT 1 OFFSET ?)
"""


class UsageFile(AbstractContextManager["UsageFile"]):
    """The counts, and the prompts with their outcomes, of all services on an index directory. Not thread-safe.

    Args:
        path: the file; created if missing, with its folder.
        read_only: change nothing; the file must exist.

    Raises:
        StorageError: here and in all methods: it cannot be read or written.
        ArtifactError: it is not a file of usage, or of another format, or a link leads out of the index directory.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        refuse_outside(path, path.parent.parent.resolve())
        with self._errors():
            if read_only:
                self._connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
            else:
                path.parent.mkdir(exist_ok=True)
                self._connection = sqlite3.connect(path, timeout=_WAIT_SECONDS, check_same_thread=False)
            self._connection.isolation_level = None
            try:
                self._open(read_only)
            except BaseException:
                self._connection.close()
                raise

    def _open(self, read_only: bool) -> None:
        distrust(self._connection)
        if not read_only:
            self._use_wal()
            self._connection.execute("PRAGMA synchronous=NORMAL")
            # What is deleted shall not be read from the file, since it may be what users wrote.
            self._connection.execute("PRAGMA secure_delete=ON").close()
            with self._transaction():
                if not self._value("SELECT count(*) FROM sqlite_master"):
                    for statement in _SCHEMA.split(";"):
                        self._connection.execute(statement)
                    self._connection.execute(f"PRAGMA application_id={_APPLICATION}")
                    self._connection.execute(f"PRAGMA user_version={_FORMAT}")
        elif not self._value("SELECT count(*) FROM sqlite_master"):
            # A service has just opened it for the first time.
            raise StorageError(f"{self.path}: has no counts yet; try again when the service has written some")
        if self._value("PRAGMA application_id") != _APPLICATION:
            raise ArtifactError(f"{self.path}: is no file of usage; move it away to count anew")
        anew = f"mv {self.path} {self.path}.old, to count anew"
        check_format(self._value("PRAGMA user_version"), _FORMAT, str(self.path), anew)
        check_schema(self._connection, _SCHEMA)

    def _use_wal(self) -> None:
        # SQLite's timeout does not cover this change by another process that opens the new file.
        deadline = time.monotonic() + _WAIT_SECONDS
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode=WAL").close()
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def _value(self, query: str) -> int:
        return int(self._connection.execute(query).fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if type(error) is sqlite3.DatabaseError:
                raise ArtifactError(f"{self.path}: is no file of usage: {error}; move it away to count anew") from error
            raise StorageError(f"{self.path}: {reason(error)}") from error
        except UnicodeEncodeError as error:
            raise InvalidInputError("a text is not valid Unicode: it contains a lone surrogate") from error

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; everything added is in it."""
        self._connection.close()

    def add(
        self,
        counts: Mapping[tuple[str, str], Count],
        totals: Mapping[str, TaskTotal],
        prompts: Sequence[ShownPrompt],
        *,
        most: int,
        oldest: float,
    ) -> None:
        """Add counts by task and id, totals by task, and prompts; drop the oldest prompts beyond the bounds.

        Args:
            counts: what to add to the counts of each demonstration.
            totals: of the prompts since the last call, also of those that are not kept. A task is counted since the
                first prompt or demonstration of it was added.
            prompts: those of them that are kept.
            most: how many prompts without an outcome are kept, and how many with one.
            oldest: prompts from before are dropped; seconds since 1970.
        """
        with self._errors(), self._transaction():
            # What was counted before by a udr that did not keep the time has none.
            self._connection.executemany(
                "INSERT OR IGNORE INTO total SELECT ?1, 0, ?2 WHERE NOT EXISTS (SELECT 1 FROM count WHERE task = ?1)",
                [(task, time.time()) for task in {task for task, _ in counts} - totals.keys()],
            )
            self._connection.executemany(
                "INSERT INTO count VALUES (?, ?, ?, ?) ON CONFLICT (task, id) DO UPDATE SET "
                "retrieved = retrieved + excluded.retrieved, shown = shown + excluded.shown",
                [(task, id, count.retrieved, count.shown) for (task, id), count in counts.items()],
            )
            self._connection.executemany(
                "INSERT INTO total VALUES (?, ?, ?) ON CONFLICT (task) DO UPDATE SET "
                "prompts = prompts + excluded.prompts",
                [(task, total.prompts, total.since) for task, total in totals.items()],
            )
            self._connection.executemany(
                "INSERT OR IGNORE INTO prompt (prompt_id, task, owner, seconds, ids, input) VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (
                        *(prompt.prompt_id, prompt.task, prompt.owner, prompt.seconds, json.dumps([*prompt.ids])),
                        None if prompt.input is None else json.dumps(dict(prompt.input), ensure_ascii=False),
                    )
                    for prompt in prompts
                ],
            )
            self._connection.execute("DELETE FROM prompt WHERE seconds < ?", (oldest,))
            for is_null in ("NULL", "NOT NULL"):
                self._connection.execute(_TOO_MANY.format(is_null=is_null), (most,))

    def tell(self, outcomes: Sequence[PromptOutcome], visible: Callable[[str, str | None], bool]) -> int:
        """Keep the outcomes of prompts, all or none; return how many replaced an earlier one.

        Args:
            outcomes: of different prompts, or of one again: the last one counts.
            visible: whether a prompt may be told of, by its task and the name of the key that asked for it.

        Raises:
            UnknownPromptError: a prompt is not known, not any more, or not visible.
        """
        replaced, unknown = 0, list[str]()
        with self._errors(), self._transaction():
            for outcome in outcomes:
                select = "SELECT task, owner, score FROM prompt WHERE prompt_id = ?"
                row = self._connection.execute(select, (outcome.prompt_id,)).fetchone()
                if row is None or not visible(row[0], row[1]):
                    unknown.append(outcome.prompt_id)
                    continue
                replaced += row[2] is not None
                update = "UPDATE prompt SET score = ?, target = ? WHERE prompt_id = ?"
                self._connection.execute(update, (outcome.score, outcome.target, outcome.prompt_id))
            if unknown:
                raise UnknownPromptError(
                    f"no prompt is known as {listed((id[:80] for id in unknown), len(unknown))}; prompt_id is in the "
                    "answer to /v1/prompt, and a prompt is kept for the time and number that GET /v1/info tells"
                )
        return replaced

    def counts(self, task: str, ids: Sequence[str] | None = None) -> dict[str, Count]:
        """Return the counts of a task's demonstrations by id, of all or of some; those without a count are left out."""
        counts: dict[str, Count] = {}
        with self._errors():
            select = "SELECT id, retrieved, shown FROM count WHERE task = ?"
            if ids is None:
                return {id: Count(*own) for id, *own in self._connection.execute(select, (task,))}
            for start in range(0, len(ids), _LOOKED_UP):
                some = ids[start : start + _LOOKED_UP]
                query = f"{select} AND id IN ({', '.join('?' * len(some))})"
                counts |= {id: Count(*own) for id, *own in self._connection.execute(query, (task, *some))}
        return counts

    def totals(self) -> dict[str, TaskTotal]:
        """Return how many prompts of each task were counted, and since when it is."""
        with self._errors():
            rows = self._connection.execute("SELECT task, prompts, since FROM total ORDER BY task").fetchall()
        return {task: TaskTotal(prompts, since) for task, prompts, since in rows}

    def told(self) -> Iterator[Told]:
        """Yield the prompts whose outcomes are known, the oldest first."""
        select = (
            "SELECT prompt_id, task, ids, seconds, owner, input, score, target FROM prompt WHERE score IS NOT NULL "
            "ORDER BY number"
        )
        with self._errors(), closing(self._connection.execute(select)) as rows:
            for prompt_id, task, ids, seconds, owner, input, score, target in rows:
                fields = None if input is None else json.loads(input)
                prompt = ShownPrompt(prompt_id, task, tuple(json.loads(ids)), seconds, owner, fields)
                yield Told(prompt, PromptOutcome(prompt_id, score, target))
