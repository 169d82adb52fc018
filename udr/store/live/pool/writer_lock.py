"""The lock of the process that writes to an index directory."""

import threading
from contextlib import ExitStack
from pathlib import Path

from udr.errors import ArtifactError, ConfigError, NotWriterError, StorageError, system_error
from udr.files import IN_USE, locked
from udr.store.version import LIVE, copied_from


class WriterLock:
    """The lock of the one process that writes to an index directory; taken at the first write, kept until closed."""

    def __init__(self, root: Path) -> None:
        self._root, self._folder, self._stack, self._lock = root, root / LIVE, ExitStack(), threading.Lock()
        self._held = False

    def take(self) -> None:
        """Take the lock unless it is held.

        Raises:
            NotWriterError: another process holds it, or the index is a copy of one on a remote store.
            StorageError: it cannot be written.
        """
        with self._lock:
            if self._held:
                return
            try:
                if url := copied_from(self._root):
                    raise NotWriterError(
                        f"this is a copy of {url}, whose writes would not leave this machine; write to the service of "
                        "the index that is uploaded there"
                    )
                self._folder.mkdir(exist_ok=True)
                self._stack.enter_context(locked(self._folder))
            except ArtifactError as error:
                holder = str(error).removeprefix(f"{self._folder}{IN_USE}").partition(";")[0]
                raise NotWriterError(
                    f"{self._folder}: another process writes to this index, {holder}; send the write to that service, "
                    "or end it"
                ) from error
            except (OSError, ConfigError) as error:
                why = system_error(error) if isinstance(error, OSError) else str(error)
                raise StorageError(f"the write was refused, and nothing was written: {why}") from error
            self._held = True

    def close(self) -> None:
        """Release the lock."""
        with self._lock:
            self._stack.close()
            self._held = False
