"""Copies of what lies elsewhere, on this machine."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from udr.errors import ArtifactError, system_error
from udr.files.formats import canonical_json
from udr.files.places import expanded
from udr.files.remote import RemoteFolder
from udr.files.writing import first_to_finish


def cache_folder() -> Path:
    """Return the folder of what is converted or copied from elsewhere: ``$UDR_CACHE``, or the user's cache folder."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expanded(os.environ.get("UDR_CACHE") or f"{caches}/udr")


def fetched(url: str, cache: Path) -> Path:
    """Return a copy, on this machine, of a remote folder as it is now: copied once for each state of the folder.

    Raises:
        ArtifactError: the store cannot be reached, the folder is empty, a file cannot be written here, or one changed
            while it was copied.
    """
    remote = RemoteFolder(url)
    files = remote.files()
    if not files:
        raise ArtifactError(f"{url}: no such folder, or an empty one")
    state = hashlib.sha256(canonical_json([url, {name: list(stamp) for name, stamp in files.items()}])).hexdigest()
    folder = cache / state[:16] / url.rpartition("/")[2]
    if not folder.is_dir():
        try:
            _copy(remote, files, folder)
        except OSError as error:
            raise ArtifactError(f"{url}: cannot be copied to this machine: {system_error(error)}") from error
    return folder


def _copy(remote: RemoteFolder, files: Mapping[str, tuple[int, str]], folder: Path) -> None:
    with first_to_finish(folder) as staging:
        for name in files:
            path = staging / name
            if not path.resolve().is_relative_to(staging.resolve()):
                raise ArtifactError(f"{remote.url}: has a file outside itself, {name!r}")
            path.parent.mkdir(parents=True, exist_ok=True)
            remote.fetch(name, path)
        copied = {name: (staging / name).stat().st_size for name in files}
        if remote.files() != files or copied != {name: size for name, (size, _) in files.items()}:
            raise ArtifactError(f"{remote.url}: changed while it was copied; try again")
