"""Verification: is every file of an index what it was when it was written?"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from udr.errors import ArtifactError, VerificationError
from udr.files import sha256
from udr.store.manifest import FileStamp
from udr.store.search_settings import SEARCH, SEARCH_TEMPORARY, approximate, read_settings
from udr.store.version import CURRENT, MANIFEST, VERSIONS, read_current, read_manifest

LEFTOVER = re.compile(r"\.(building|pruned)-(?P<version>[0-9a-f]{16})(-reuse(-[0-9a-f]{16})?)?|\..+\.tmp(\.incoming)?")
"""What a build or a prune has beside the versions while it works, and leaves there when it is killed."""

_LOCK = ".lock"


@dataclass(frozen=True, order=True, slots=True)
class Finding:
    """Something about a file of an index that is not as it should be.

    Attributes:
        path: the file, relative to the index.
        problem: what is wrong with it.
    """

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def verify(root: Path) -> list[Finding]:
    """Read all of an index, every version of it, and return what is missing, altered, truncated or extra.

    Nothing that lies there makes this fail; what cannot be read is a finding.
    """
    return sorted(_verify(root))


def verify_version(folder: Path) -> list[Finding]:
    """Read all of one version and return what is wrong with it; paths are relative to ``folder``."""
    return sorted(_verify_version(folder))


def refuse_damage(folder: Path, said: str, remedy: str) -> None:
    """Read all of one version, and refuse to go on with it where something is wrong.

    Args:
        folder: the version.
        said: what is to be said of it, before the first finding.
        remedy: what to do.

    Raises:
        VerificationError: a file is not what the manifest says.
    """
    if findings := verify_version(folder):
        raise VerificationError(f"{folder}: {said}: {findings[0]}; {remedy}")


def _verify(root: Path) -> Iterator[Finding]:
    if not root.is_dir():
        yield Finding(".", f"no such folder as {root}")
        return
    try:
        read_current(root)
    except ArtifactError as error:
        yield Finding(CURRENT, _without_path(error, root / CURRENT))
    for entry in _entries(root):
        if entry.name == VERSIONS and entry.is_dir():
            for version in _entries(entry):
                yield from _of_version(version, f"{VERSIONS}/{version.name}")
        elif entry.name not in (CURRENT, _LOCK) and not LEFTOVER.fullmatch(entry.name):
            yield Finding(entry.name, "does not belong to the index")


def _of_version(folder: Path, name: str) -> Iterator[Finding]:
    if not folder.is_dir():
        yield Finding(name, "does not belong to the index")
        return
    for finding in _verify_version(folder):
        yield Finding(f"{name}/{finding.path}", finding.problem)


def _verify_version(folder: Path) -> Iterator[Finding]:
    try:
        manifest = read_manifest(folder)
    except ArtifactError as error:
        # Without the manifest no other file can be judged.
        yield Finding(MANIFEST, _without_path(error, folder / MANIFEST))
        return
    expected = manifest.files
    own = {MANIFEST, SEARCH, SEARCH_TEMPORARY} if approximate(manifest) else {MANIFEST}
    try:
        read_settings(folder, manifest)
    except VerificationError as error:
        yield Finding(SEARCH, _without_path(error, folder / SEARCH))
    for name, stamp in expected.items():
        problem = _problem(folder / name, stamp)
        if problem is not None:
            yield Finding(name, problem)
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if name not in own and name not in expected and (path.is_symlink() or not path.is_dir()):
            yield Finding(name, "does not belong to the version")


def _problem(path: Path, stamp: FileStamp) -> str | None:
    try:
        if not path.is_file():
            return "is missing"
        size = path.stat().st_size
        if size < stamp.size:
            return f"is truncated: {size} bytes, the manifest says {stamp.size}"
        found = sha256(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if found == stamp.sha256:
        return None
    return f"is altered: sha256 {found[:12]}…, {size} bytes; the manifest says {stamp.sha256[:12]}…, {stamp.size} bytes"


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def _without_path(error: ArtifactError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")
