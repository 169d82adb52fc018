"""The file of API keys: read, read again, and added to."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from udr.errors import ConfigError, DataError, system_error
from udr.files import read_text, write_atomically
from udr_service.auth.keys import KeyEntry, KeyRing


class KeyFile:
    """A file of keys, and its content when it was last valid, ``ring``. Raises what ``read`` raises."""

    def __init__(self, path: Path) -> None:
        self.path, self.ring = path, self.read(path)

    @staticmethod
    def read(path: Path) -> KeyRing:
        """Return the keys that a file lists; raise a ``ConfigError`` that names the file if it is invalid."""
        with _naming(path):
            if not path.exists():
                raise ConfigError(f"no such file; create it with: udr keys new --name NAME --scope read --file {path}")
            return KeyRing.parse(read_text(path))

    def read_again(self) -> None:
        """Set ``ring`` to what the file lists now; it stays as it is if that is invalid."""
        self.ring = self.read(self.path)


def append(path: Path, entry: KeyEntry) -> None:
    """Add an entry to a file of keys; create the file, readable only by its owner, if needed, or keep its permissions.

    Raises:
        ConfigError: the file is invalid, or has the name already; it is left as it was.
    """

    def write(stream: BinaryIO) -> None:
        # Read here, where no other process writes: commands that run at once must not lose each other's entry.
        before = read_text(path).rstrip() if path.exists() else ""
        text = f"{before}\n\n{entry.to_toml()}".lstrip()
        KeyRing.parse(text)
        if not path.exists():
            # Before the content is written.
            os.fchmod(stream.fileno(), 0o600)
        stream.write(text.encode())

    with _naming(path):
        write_atomically(path, write)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name before errors."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except DataError as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        error.filename = error.filename or str(path)
        raise ConfigError(system_error(error)) from error
