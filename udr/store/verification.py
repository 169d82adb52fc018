"""Verification: whether every file of an index still has the content that was written."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from udr.errors import ArtifactError, VerificationError
from udr.files import sha256
from udr.store.manifest import FileStamp
from udr.store.searching import SEARCH, SEARCH_TEMPORARY, read_settings
from udr.store.untrusted import VERSION_NAME, Contained
from udr.store.version import COPY_OF, CURRENT, LIVE, MANIFEST, VERSIONS, read_current, read_manifest

COMPACTING = ".compacting"
"""Beside the versions, the folder where a compaction works."""

LEFTOVER = re.compile(
    rf"\.(building|pruned)-(?P<version>{VERSION_NAME})(-reuse(-{VERSION_NAME})?)?|{re.escape(COMPACTING)}"
    r"|\..+\.tmp(\.incoming)?"
)
"""Temporary files and folders beside the versions, which an interrupted build, compaction or prune leaves behind."""

_LOCK = ".lock"


@dataclass(frozen=True, order=True, slots=True)
class Finding:
    """A problem with a file of an index, by its path relative to the index."""

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def verify(root: Path) -> list[Finding]:
    """Read all versions of an index and return what is missing, altered, truncated or extra.

    Unreadable files are findings, not errors.
    """
    return sorted(_verify(root))


def verify_version(folder: Path) -> list[Finding]:
    """Read all files of one version and return its findings; paths are relative to ``folder``."""
    return sorted(_verify_version(folder))


def refuse_damage(folder: Path, problem: str = "is damaged", remedy: str = "run: udr index verify") -> None:
    """Read all files of one version; if any is damaged, raise ``VerificationError`` with this problem and remedy."""
    if findings := verify_version(folder):
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise VerificationError(f"{folder}: {problem}: {findings[0]}{more}; {remedy}")


@contextmanager
def verifying(folder: Path) -> Iterator[None]:
    """Do as ``refuse_damage`` in a thread while the block runs, which it hardly holds up.

    What the block makes of a damaged file does not matter: at the end, damage is raised in place of the block's error.
    """
    with ThreadPoolExecutor(1) as beside:
        verified = beside.submit(refuse_damage, folder)
        try:
            yield
        finally:
            verified.result()


def _verify(root: Path) -> Iterator[Finding]:
    if not root.is_dir():
        yield Finding(".", f"no such folder as {root}")
        return
    try:
        read_current(root)
    except ArtifactError as error:
        yield _finding(root, CURRENT, error)
    for entry in root.iterdir():
        if entry.name == VERSIONS and entry.is_dir():
            for version in entry.iterdir():
                name = f"{VERSIONS}/{version.name}"
                if version.is_dir():
                    yield from (Finding(f"{name}/{item.path}", item.problem) for item in _verify_version(version))
                else:
                    yield Finding(name, "does not belong to the index")
        elif entry.name not in (CURRENT, COPY_OF, LIVE, _LOCK) and not LEFTOVER.fullmatch(entry.name):
            yield Finding(entry.name, "does not belong to the index")


def _verify_version(folder: Path) -> Iterator[Finding]:
    try:
        manifest = read_manifest(folder)
    except ArtifactError as error:
        # No other file can be checked without the manifest.
        yield _finding(folder, MANIFEST, error)
        return
    try:
        read_settings(folder, manifest)
    except VerificationError as error:
        yield _finding(folder, SEARCH, error)
    contained = Contained(folder)
    for name, stamp in manifest.files.items():
        if problem := _problem(contained, folder, name, stamp):
            yield Finding(name, problem)
    own = {MANIFEST, SEARCH, SEARCH_TEMPORARY}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if name not in own and name not in manifest.files and (path.is_symlink() or not path.is_dir()):
            yield Finding(name, "does not belong to the version")


def _problem(contained: Contained, folder: Path, name: str, stamp: FileStamp) -> str | None:
    try:
        state = contained.state(name)
        if state is None:
            return "is missing"
        size = state.st_size
        if size < stamp.size:
            return f"is truncated: {size} bytes, the manifest says {stamp.size}"
        digest = sha256(folder / name)
    except VerificationError as error:
        return str(error).removeprefix(f"{folder / name}: ")
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if digest == stamp.sha256:
        return None
    return (
        f"is altered: sha256 {digest[:12]}…, {size} bytes; the manifest says {stamp.sha256[:12]}…, {stamp.size} bytes"
    )


def _finding(folder: Path, name: str, error: ArtifactError) -> Finding:
    return Finding(name, str(error).removeprefix(f"{folder / name}: "))
