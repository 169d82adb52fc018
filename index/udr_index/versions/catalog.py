"""The versions of an index: list them, and publish one.

Readers never wait: ``CURRENT`` is replaced atomically, so a reader opens the old version or the new one. Commands that
publish, prune or build exclude each other by a lock.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from udr.errors import ArtifactError, ConfigError
from udr.files import refuse_remote
from udr.store import (
    CURRENT,
    MANIFEST,
    VERSION_NAME,
    VERSIONS,
    RemoteIndex,
    find_current,
    read_current,
    read_manifest,
    refuse_damage,
    refuse_wording,
    version_path,
)
from udr.store import publish as write_current
from udr_index.lock import lock_index


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionInfo:
    """A version of an index. If its manifest cannot be read, ``problem`` says why, and encoder and sizes are empty.

    ``changed_seconds`` is when its manifest was written, or else its folder, in seconds since 1970. ``size_bytes`` is
    without the files that are in a newer version, too, as hard links.
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
        """The number of demonstrations."""
        return sum(self.sizes.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """The current version, and the one that was current before; None if ``CURRENT`` named none."""

    version: str
    previous: str | None


def list_versions(root: Path) -> list[VersionInfo]:
    """Return the versions of the index at ``root``, newest first. Reads their manifests and no other file.

    Raises:
        ArtifactError: there is no index.
    """
    current, infos = find_current(root), list[VersionInfo]()
    for folder in _folders(root):
        # A prune may delete one meanwhile.
        with suppress(FileNotFoundError):
            infos.append(_info(folder, is_current=folder.name == current))
    infos.sort(key=lambda info: (-info.changed_seconds, info.name))
    seen = set[tuple[int, int]]()
    for at, info in enumerate(infos):
        own = {key: state.st_size for key, state in file_states(version_path(root, info.name)) if key not in seen}
        infos[at] = replace(info, size_bytes=sum(own.values()))
        seen |= own.keys()
    return infos


def find_version(root: Path, name: str) -> str:
    """Return the version that ``name`` means: a full name, a unique prefix, or ``CURRENT``.

    Raises:
        ArtifactError: no version matches, or more than one.
    """
    if name == CURRENT:
        return read_current(root)
    return _match(root, name, [folder.name for folder in _folders(root)])


def _match(root: Path | str, name: str, versions: Sequence[str]) -> str:
    matches = [version for version in versions if name and version.startswith(name)]
    if len(matches) > 1:
        raise ArtifactError(f"{root}: {name!r} is ambiguous: it matches {', '.join(matches)}; give more of the name")
    if not matches:
        raise ArtifactError(f"{root}: no version {name!r}; the versions are: {', '.join(versions) or 'none'}")
    return matches[0]


def publish(root: Path, name: str) -> Published:
    """Verify a version of the index at ``root`` (see ``find_version``), newer or older, and make it the current one.

    This repairs a ``CURRENT`` that is missing or altered.

    Raises:
        ArtifactError: there is no such version, it has another wording, or a build is running.
        VerificationError: the version is damaged.
    """
    if (remote := RemoteIndex.at(root)) is not None:
        version = remote.current() if name == CURRENT else _match(remote.url, name, remote.versions())
        return Published(version=version, previous=remote.publish(version))
    with lock_existing(root):
        version = find_version(root, name)
        folder = version_path(root, version)
        refuse_damage(folder, "is damaged and was not published", f"to see all, run: udr index verify {root}")
        refuse_wording(read_manifest(folder), folder)
        previous = find_current(root)
        if version != previous:
            write_current(root, version)
    return Published(version=version, previous=previous)


def upload(root: Path, name: str, place: str) -> Published:
    """Verify a version of the index at ``root``, copy it to an index on a remote store, and publish it there.

    Raises:
        ArtifactError: there is no such version, it has another wording, or the store cannot be reached or refuses.
        ConfigError: the place is not on a remote store.
        VerificationError: the version is damaged.
    """
    remote = RemoteIndex.at(place)
    if remote is None:
        raise ConfigError(f"{place!r} is not on a remote store; give a URL such as s3://bucket/index")
    with lock_existing(root):
        folder = version_path(root, find_version(root, name))
        refuse_damage(folder, "is damaged and was not uploaded", f"to see all, run: udr index verify {root}")
        remote.upload(folder)
    return Published(version=folder.name, previous=remote.publish(folder.name))


@contextmanager
def lock_existing(root: Path) -> Iterator[None]:
    """Lock an existing index; raise ArtifactError if there is none."""
    _folders(root)
    with lock_index(root):
        yield


def file_states(path: Path) -> Iterator[tuple[tuple[int, int], os.stat_result]]:
    """Yield the state of a file, or of each file in a folder, after what its hard links share; no link is followed."""
    files = [path]
    if path.is_dir() and not path.is_symlink():
        files = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    for file in files:
        # A prune may delete it, and a temporary file may have got its final name meanwhile.
        with suppress(FileNotFoundError):
            state = file.lstat()
            yield (state.st_dev, state.st_ino), state


def _folders(root: Path) -> list[Path]:
    """Return the folders of the versions. ``udr index verify`` reports whatever else is beside them."""
    refuse_remote(root)
    folder = root / VERSIONS
    if not folder.is_dir():
        raise ArtifactError(f"{root}: no index here (no folder {VERSIONS}); run: udr index build --out {root}")
    return sorted(path for path in folder.iterdir() if re.fullmatch(VERSION_NAME, path.name) and path.is_dir())


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
        # The manifest is written once; search settings change the folder later.
        changed_seconds=(folder / MANIFEST if problem is None else folder).stat().st_mtime,
        size_bytes=0,
        encoder=encoder,
        sizes=sizes,
        problem=problem,
    )
