"""Deleting old versions of an index.

A reader keeps the files of its version open: on Linux it still reads them after the version is deleted, and the space
is free once the last such reader closes.
"""

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from udr.errors import ConfigError
from udr.files import sync
from udr.store import LEFTOVER, SEARCH_TEMPORARY, read_current, refuse_damage, version_path
from udr_index.versions.catalog import VersionInfo, file_states, list_versions, lock_existing


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """What pruning removed, or would remove: versions, newest first, and paths that killed commands left.

    ``freed_bytes`` leaves out files that are also somewhere else as hard links.
    """

    versions: tuple[VersionInfo, ...]
    leftovers: tuple[str, ...]
    kept: tuple[VersionInfo, ...]
    freed_bytes: int


def prune(root: Path, keep: int, *, dry_run: bool = False) -> Pruned:
    """Delete all but the newest ``keep`` versions of the index at ``root``, and what killed builds left.

    The current version stays, whatever its age, and readable versions are kept before unreadable ones. A reader that is
    about to open a deleted version fails and may try again. If a prune is killed, the index stays intact and the next
    prune finishes the work. A dry run only returns what would be deleted.

    Raises:
        ConfigError: ``keep`` is below 1.
        ArtifactError: ``CURRENT`` is missing or altered, or a build is running.
        VerificationError: the current version is damaged, and others would be deleted.
    """
    if keep < 1:
        raise ConfigError(f"at least 1 version must be kept, found {keep}")
    with lock_existing(root):
        current = read_current(root)
        versions = list_versions(root)
        # Sorting is stable: equals stay newest first.
        best = sorted(versions, key=lambda info: (not info.is_current, info.problem is not None))[:keep]
        removed = [info for info in versions if info not in best]
        if removed:
            # One of them may be needed in place of a damaged one.
            refuse_damage(
                version_path(root, current),
                "is current and damaged, so nothing was deleted",
                f"publish another version first, run: udr index publish {root} VERSION",
            )
        # The lock says that no other command is using them.
        leftovers = sorted(path for path in root.iterdir() if LEFTOVER.fullmatch(path.name))
        temporary = (version_path(root, info.name) / SEARCH_TEMPORARY for info in best)
        leftovers += [path for path in temporary if path.is_file()]
        pruned = Pruned(
            versions=tuple(removed),
            leftovers=tuple(path.relative_to(root).as_posix() for path in leftovers),
            kept=tuple(info for info in versions if info in best),
            freed_bytes=_size_alone([*(version_path(root, info.name) for info in removed), *leftovers]),
        )
        if not dry_run:
            # `.pruned-` folders go first: the others are renamed to such names before they are deleted.
            for path in sorted(leftovers, key=lambda path: not path.name.startswith(".pruned-")):
                _delete(root, path)
            for info in removed:
                _delete(root, version_path(root, info.name))
    return pruned


def _size_alone(paths: Sequence[Path]) -> int:
    """Return the bytes of the files in these folders that have no hard link elsewhere."""
    states, links = dict[tuple[int, int], os.stat_result](), Counter[tuple[int, int]]()
    for path in paths:
        for key, state in file_states(path):
            states[key] = state
            links[key] += 1
    return sum(state.st_size for key, state in states.items() if state.st_nlink <= links[key])


def _delete(root: Path, path: Path) -> None:
    """Delete a version or a leftover, so that readers and builds never see a part of it."""
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
