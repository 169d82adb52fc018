"""The versions of an index: which there are, which one is read, and which are deleted.

Readers never wait. ``CURRENT`` is replaced atomically, so that a reader opens the old version or the new one. A reader
keeps the files of its version open: on Linux it goes on answering from them after the version is deleted, and the
room is free when the last such reader closes. What publishes, prunes or builds keeps the others out by a lock.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from udr.data import ENCODER_WORDING
from udr.errors import ArtifactError, ConfigError
from udr.files import sync
from udr.store import (
    CURRENT,
    LEFTOVER,
    MANIFEST,
    SEARCH_TEMPORARY,
    VERSIONS,
    read_current,
    read_manifest,
    refuse_damage,
    version_path,
)
from udr.store import publish as write_current
from udr_index.lock import alone

_NAME = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionInfo:
    """A version of an index, whether it can be read or not.

    Attributes:
        name: the version.
        is_current: whether it is the one that readers open.
        changed_seconds: when it was built, or its folder last changed where the manifest cannot be read, in seconds
            since 1970. The version itself tells no time: equal builds give equal bytes.
        size_bytes: of all its files.
        encoder: the name of the encoder that made it; None where the manifest cannot be read.
        sizes: how many demonstrations each task has; empty where the manifest cannot be read.
        problem: why the manifest cannot be read, or None.
    """

    name: str
    is_current: bool
    changed_seconds: float
    size_bytes: int
    encoder: str | None
    sizes: Mapping[str, int]
    problem: str | None

    @property
    def num_rows(self) -> int:
        """How many demonstrations it has."""
        return sum(self.sizes.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """What publishing did.

    Attributes:
        version: the version that is current now.
        previous: the one that was before, it may be the same; None where ``CURRENT`` named none.
    """

    version: str
    previous: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """What pruning removed, or would remove.

    Attributes:
        versions: the versions, newest first.
        leftovers: what killed commands had left, relative to the index directory.
        kept: the versions that stay, newest first.
        freed_bytes: of all files that were removed.
    """

    versions: tuple[VersionInfo, ...]
    leftovers: tuple[str, ...]
    kept: tuple[VersionInfo, ...]
    freed_bytes: int


def list_versions(root: Path) -> list[VersionInfo]:
    """Return the versions of the index at ``root``, the newest first. Reads their manifests and no other file.

    Raises:
        ArtifactError: there is no index.
    """
    try:
        current = read_current(root)
    except ArtifactError:
        current = None
    infos = list[VersionInfo]()
    for folder in _folders(root):
        # A prune may take one away meanwhile.
        with suppress(FileNotFoundError):
            infos.append(_info(folder, is_current=folder.name == current))
    return sorted(infos, key=lambda info: (-info.changed_seconds, info.name))


def find_version(root: Path, name: str) -> str:
    """Return the version that ``name`` means: a version, the beginning of just one, or ``CURRENT``.

    Raises:
        ArtifactError: there is no such version, or more than one.
    """
    if name == CURRENT:
        return read_current(root)
    there = [folder.name for folder in _folders(root)]
    found = [version for version in there if name and version.startswith(name)]
    if len(found) > 1:
        raise ArtifactError(f"{root}: {name!r} begins the names of {', '.join(found)}; write more of the one you mean")
    if not found:
        raise ArtifactError(f"{root}: no version {name!r}; there are: {', '.join(there) or 'none'}")
    return found[0]


def publish(root: Path, name: str) -> Published:
    """Have the index at ``root`` read at another version, a newer or an older one, once that was found whole.

    Args:
        root: the index. Its ``CURRENT`` may be missing or altered; this makes it good.
        name: the version; see ``find_version``.

    Raises:
        ArtifactError: there is no such version, this udr words rows in another way, or a build is at work.
        VerificationError: the version is damaged.
    """
    with _alone(root):
        version = find_version(root, name)
        _refuse_unfit(root, version)
        try:
            previous = read_current(root)
        except ArtifactError:
            previous = None
        if version != previous:
            write_current(root, version)
    return Published(version=version, previous=previous)


def prune(root: Path, keep: int, *, dry_run: bool = False) -> Pruned:
    """Delete all but the newest versions of the index at ``root``, and what killed builds left.

    The current version stays, whatever its age; one whose manifest cannot be read never stays in place of one that
    can be read. A reader that has a deleted version open is not disturbed (see above); one that is about to open it,
    since it was current a moment ago, fails and may try again. A prune that is killed leaves an index that is whole;
    the next one finishes its work.

    Args:
        root: the index.
        keep: how many versions are to stay, the current one among them; at least 1.
        dry_run: delete nothing, return what would be.

    Raises:
        ConfigError: none is to be kept.
        ArtifactError: ``CURRENT`` is missing or altered, or a build is at work.
        VerificationError: the current version is damaged, and others would be deleted.
    """
    if keep < 1:
        raise ConfigError(f"at least 1 version must be kept, found {keep}")
    with _alone(root):
        current = read_current(root)
        versions = list_versions(root)
        # Sorting keeps the order of equals: the newest first.
        best = sorted(versions, key=lambda info: (not info.is_current, info.problem is not None))[:keep]
        gone = [info for info in versions if info not in best]
        if gone:
            # Others could be published in place of a damaged one.
            refuse_damage(
                version_path(root, current),
                "is current and damaged, so nothing was deleted",
                f"publish another version first, run: udr index publish {root} VERSION",
            )
        # All of them may go while no other is at work.
        leftovers = sorted(path for path in root.iterdir() if LEFTOVER.fullmatch(path.name))
        written = (version_path(root, info.name) / SEARCH_TEMPORARY for info in best)
        leftovers += [path for path in written if path.is_file()]
        pruned = Pruned(
            versions=tuple(gone),
            leftovers=tuple(path.relative_to(root).as_posix() for path in leftovers),
            kept=tuple(info for info in versions if info in best),
            freed_bytes=sum(info.size_bytes for info in gone) + sum(_size(path) for path in leftovers),
        )
        if not dry_run:
            # Those that have the name of what is to be deleted already come first, since others shall get it.
            for path in sorted(leftovers, key=lambda path: not path.name.startswith(".pruned-")):
                _delete(root, path)
            for info in gone:
                _delete(root, version_path(root, info.name))
    return pruned


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    # The lock makes the folder of the index where there is none; here that is a mistake.
    _folders(root)
    with alone(root):
        yield


def _folders(root: Path) -> list[Path]:
    """Return the folders of the versions; whatever else lies beside them is left to ``udr index verify``."""
    folder = root / VERSIONS
    if not folder.is_dir():
        raise ArtifactError(f"{root}: no index here, there is no folder {VERSIONS}; run: udr index build --out {root}")
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir())


def _info(folder: Path, *, is_current: bool) -> VersionInfo:
    encoder, problem, sizes = None, None, dict[str, int]()
    try:
        manifest = read_manifest(folder)
    except ArtifactError as error:
        problem = str(error).removeprefix(f"{folder}{os.sep}")
    else:
        encoder = manifest.encoder.name
        sizes = {name: part.count for name, part in manifest.partitions.items()}
    return VersionInfo(
        name=folder.name,
        is_current=is_current,
        # Of the manifest, which is written once: search settings change a folder later.
        changed_seconds=(folder / MANIFEST if problem is None else folder).stat().st_mtime,
        size_bytes=_size(folder),
        encoder=encoder,
        sizes=sizes,
        problem=problem,
    )


def _size(path: Path) -> int:
    """Return how many bytes would be free without it: none where it is a link to another place."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    size = 0
    for folder, _, names in os.walk(path):
        for name in names:
            # A temporary file may have got its final name.
            with suppress(FileNotFoundError):
                size += os.lstat(os.path.join(folder, name)).st_size
    return size


def _refuse_unfit(root: Path, version: str) -> None:
    folder = version_path(root, version)
    refuse_damage(folder, "is damaged and was not published", f"to see all, run: udr index verify {root}")
    wording = read_manifest(folder).wording
    if wording != ENCODER_WORDING:
        raise ArtifactError(
            f"{folder}: was not published, it was built with wording {wording} and this udr words rows as "
            f"{ENCODER_WORDING}; run: udr index build"
        )


def _delete(root: Path, path: Path) -> None:
    """Delete what lies in the index, so that at no time a version or a build is there in part."""
    leftover = LEFTOVER.fullmatch(path.name)
    version = path.name if leftover is None else leftover["version"]
    if version is not None:
        aside = root / f".pruned-{version}"
        if path != aside:
            path.rename(aside)
            sync(path.parent)
            sync(root)
        path = aside
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    sync(root)
