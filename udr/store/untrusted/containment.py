"""Files of an index: regular files inside its directory, whatever links lead to them."""

import os
import stat
from pathlib import Path

from udr.errors import VerificationError


def root_of(folder: Path) -> Path:
    """Return the index directory that has the version in ``folder``, without links."""
    return folder.parent.parent.resolve()


def refuse_outside(path: Path, root: Path) -> None:
    """Raise ``VerificationError`` if a path leads out of the index directory ``root``, which has no links itself."""
    target = path.resolve()
    if not target.is_relative_to(root):
        remedy = "copy what it leads to into the index, as cp -rL does, if you trust it"
        raise VerificationError(f"{path}: is a link out of the index, to {target}; {remedy}")


class Contained:
    """Finds the files of a version, and refuses what lies outside its index; each folder is looked at once."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._root = folder, root_of(folder)
        self._inside: set[str] = set()
        refuse_outside(folder, self._root)

    def state(self, name: str) -> os.stat_result | None:
        """Return the state of the file with this path in the version; None if there is no regular file.

        Raises:
            VerificationError: a link leads out of the index.
            OSError: the file cannot be looked at.
        """
        path, parent = os.path.join(self._folder, name), os.path.dirname(name)
        if parent not in self._inside:
            refuse_outside(self._folder / parent, self._root)
            self._inside.add(parent)
        try:
            state = os.lstat(path)
            if stat.S_ISLNK(state.st_mode):
                refuse_outside(Path(path), self._root)
                state = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return state if stat.S_ISREG(state.st_mode) else None
