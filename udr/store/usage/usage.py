"""Counting while a service answers: in memory, added to the file once a second by a thread."""

import json
import logging
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from udr.errors import ArtifactError, StorageError, UdrError
from udr.store.usage.file import USAGE, UsageFile
from udr.store.usage.types import MAX_INPUT, Count, PromptOutcome, ShownPrompt, TaskTotal, UsageLevel
from udr.store.version import LIVE
from udr.types import Json

FLUSH_SECONDS = 1.0
"""How often counts are added to the file; a process that is killed loses those since the last time."""

_WAITING = 10_000
"""The newest prompts that wait in memory if they cannot be stored."""

_DAY = 86_400.0

_LOG = logging.getLogger(__name__)


class Usage:
    """Counts demonstrations and keeps prompts of one process; thread-safe.

    What cannot be stored stays in memory, which one notice tells, and is stored once that is possible.

    Args:
        root: the index directory; None counts nothing.
        level: what is kept.
        prompts: how many prompts are kept without an outcome, and how many with one; the oldest are dropped.
        days: for how long.
        on_failure: called each time that something cannot be stored.
    """

    def __init__(
        self,
        root: Path | None,
        level: UsageLevel = UsageLevel.COUNTS,
        *,
        prompts: int = 100_000,
        days: float = 30.0,
        on_failure: Callable[[], object] = lambda: None,
    ) -> None:
        self.level = level if root is not None else UsageLevel.OFF
        self._path = None if root is None else root / LIVE / USAGE
        self._most, self._days, self._on_failure = prompts, days, on_failure
        self._adding, self._storing = threading.Lock(), threading.Lock()
        self._retrieved, self._shown = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        self._totals: dict[str, TaskTotal] = {}
        self._prompts: deque[ShownPrompt] = deque(maxlen=_WAITING)
        self._file: UsageFile | None = None
        self._thread: threading.Thread | None = None
        self._closing, self._told = threading.Event(), ""

    @property
    def counts_usage(self) -> bool:
        """Whether it counts at all."""
        return self.level is not UsageLevel.OFF

    def retrieved(self, demonstrations: Iterable[tuple[str, str]]) -> None:
        """Count retrieved demonstrations, each by task and id; takes about two microseconds."""
        if self.counts_usage:
            with self._adding:
                self._retrieved.update(demonstrations)
            self._start()

    def prompt(
        self, task: str, ids: Sequence[str], input: Mapping[str, Json] | None = None, owner: str | None = None
    ) -> str | None:
        """Count a prompt's demonstrations, and keep the prompt; return its name, or None if nothing is counted.

        Args:
            task: the task of the query, and of the demonstrations.
            ids: the demonstrations that it shows.
            input: the query's fields by name, which are kept if the level says so.
            owner: the name of the API key that asks for it.
        """
        if not self.counts_usage:
            return None
        kept = input if self.level is UsageLevel.INPUTS else None
        if kept is not None and len(json.dumps(dict(kept), ensure_ascii=False)) > MAX_INPUT:
            kept = None
        prompt = ShownPrompt(secrets.token_hex(16), task, ids, time.time(), owner, kept)
        with self._adding:
            self._shown.update([(task, id) for id in ids])
            _add(self._totals, {task: TaskTotal(1, prompt.seconds)})
            self._prompts.append(prompt)
        self._start()
        return prompt.prompt_id

    def tell(self, outcomes: Sequence[PromptOutcome], visible: Callable[[str, str | None], bool]) -> int:
        """Keep the outcomes of prompts, all or none, in the file; see ``UsageFile.tell``.

        Raises:
            UnknownPromptError: a prompt is not known, not any more, or not visible.
            StorageError: the file cannot be written.
        """
        try:
            with self._storing:
                return self._flushed().tell(outcomes, visible)
        except ArtifactError as error:
            raise StorageError(f"the outcome was refused: {error}") from error

    def counts(self, task: str, ids: Sequence[str]) -> dict[str, Count]:
        """Return the counts of demonstrations: those in the file, and those of this process since."""
        with self._storing:
            try:
                stored = self._opened().counts(task, ids)
            except UdrError as error:
                self._tell_once(error)
                stored = {}
            with self._adding:
                own = {id: Count(self._retrieved[task, id], self._shown[task, id]) for id in ids}
        return {id: count + stored.get(id, Count()) for id, count in own.items()}

    def flush(self) -> None:
        """Add what was counted to the file, now; log once if that is not possible."""
        with self._storing:
            if self._retrieved or self._prompts:
                try:
                    self._flushed()
                    self._told = ""
                except UdrError as error:
                    self._tell_once(error)

    def close(self) -> None:
        """Add what was counted to the file, and close it."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        self.flush()
        with self._storing:
            if self._file is not None:
                self._file.close()

    def _start(self) -> None:
        """Start the thread at the first count: what is made before a process forks has none."""
        if self._thread is None and not self._closing.is_set():
            with self._adding:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="udr-usage", daemon=True)
                    self._thread.start()

    def _run(self) -> None:
        while not self._closing.wait(FLUSH_SECONDS):
            self.flush()

    def _opened(self) -> UsageFile:
        if self._path is None:
            raise StorageError("these rows are not those of an index directory, so their use is not stored")
        if self._file is None:
            self._file = UsageFile(self._path)
        return self._file

    def _flushed(self) -> UsageFile:
        """Return the file with all that was counted; what cannot be added is counted again."""
        file = self._opened()
        with self._adding:
            retrieved, shown, totals, prompts = self._retrieved, self._shown, self._totals, list(self._prompts)
            self._retrieved, self._shown, self._totals = Counter(), Counter(), {}
            self._prompts.clear()
        if not (retrieved or shown or prompts):
            return file
        counts = {key: Count(retrieved[key], shown[key]) for key in retrieved.keys() | shown.keys()}
        try:
            file.add(counts, totals, prompts, most=self._most, oldest=time.time() - self._days * _DAY)
        except BaseException:
            with self._adding:
                self._retrieved.update(retrieved)
                self._shown.update(shown)
                _add(self._totals, totals)
                self._prompts = deque([*prompts, *self._prompts], _WAITING)
            raise
        return file

    def _tell_once(self, error: UdrError) -> None:
        self._on_failure()
        if self._told != (told := str(error)):
            self._told = told
            _LOG.warning("the usage of demonstrations is not stored, and is kept in memory meanwhile: %s", told)


def _add(totals: dict[str, TaskTotal], more: Mapping[str, TaskTotal]) -> None:
    for task, total in more.items():
        totals[task] = totals[task] + total if task in totals else total
