"""The log of what is written to an index on a remote store: its writer uploads it, and each copy of the index follows.

What is damaged goes no further. A log that was emptied (``udr index compact --forget``) does not come before the
version that has the rest of it.
"""

import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from udr.errors import ArtifactError, VerificationError
from udr.files import RemoteFolder, locked, write_atomically
from udr.store.live import LOG, WriteLog, holder_of
from udr.store.version import LIVE, find_current

_LOG = logging.getLogger(__name__)

_PATH, _SEEN, _COPIED = f"{LIVE}/{LOG}", f"{LIVE}/.copied", ".log.copied"
_DAMAGED = "damaged "
"""Before the state of a log that was refused, in the file that has the last one seen."""

WAIT_SECONDS = 24 * 60 * 60
"""How long to wait for another process that copies the same index."""


@dataclass(frozen=True, slots=True)
class RemoteLog:
    """The log of an index on a remote store. All methods raise an ``ArtifactError`` if it cannot be reached.

    Attributes:
        folder: the index there.
        current: returns the name of the version that is published there.
    """

    folder: RemoteFolder
    current: Callable[[], str]

    def fetch(self, root: Path, prepare: Callable[[], None]) -> None:
        """Copy the log to the copy of the index at ``root``, if it is another than the last time.

        If it is damaged, the copy keeps the one that it has, and the log of this process says so once.

        Args:
            root: the copy.
            prepare: makes its folder.
        """
        state, seen, log = self.folder.state(_PATH), root / _SEEN, root / _PATH
        known = seen.read_text("utf-8") if seen.is_file() else ""
        if state is None or known == _DAMAGED + state or (known == state and log.is_file()):
            return
        prepare()
        log.parent.mkdir(exist_ok=True)
        with locked(log.parent, WAIT_SECONDS):
            part = log.with_name(_COPIED)
            self.folder.fetch(_PATH, part)
            # A copy that broke off, or met another write, is made again at the next look.
            whole = part.stat().st_size == int(state.split()[0])
            try:
                holder = _holder(log.parent, _COPIED)
            except VerificationError as error:
                if whole:
                    why = str(error).removeprefix(f"{part}: ").partition(";")[0]
                    _LOG.error("%s/%s: %s; this copy keeps the writes that it has", self.folder.url, _PATH, why)
                    write_atomically(seen, f"{_DAMAGED}{state}".encode())
                return
            if holder and find_current(root) not in (None, holder) and self.current() == holder:
                # The version that answers here needs what was dropped, until that one does.
                return
            # Readers find out by the file's number, and read all of it again.
            part.replace(log)
            if whole:
                write_atomically(seen, state.encode())

    def upload(self, root: Path) -> None:
        """Copy the log of the index directory at ``root`` to the store, if there is one.

        Raises:
            VerificationError: it is damaged.
            ArtifactError: it was emptied of writes that only a version of the directory has.
        """
        if not (root / _PATH).is_file():
            return
        holder = _holder(root / LIVE, LOG)
        if holder and find_current(root) == holder and (published := self.current()) != holder:
            raise ArtifactError(
                f"{root / _PATH}: was emptied of the writes that version {holder} has, but {self.folder.url} has "
                f"version {published}; run: udr index publish {root} {holder} --to {self.folder.url}"
            )
        self.folder.put(_PATH, root / _PATH)


def _holder(folder: Path, name: str) -> str:
    with closing(WriteLog(folder, name)) as log:
        return holder_of(log)
