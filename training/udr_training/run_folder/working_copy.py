"""Directories of runs and evaluations on a remote store: a copy on this machine, uploaded after each stage.

The store's folder has the files of the directory, and ``RUN.json``, which names those that are complete. It is replaced
last, all at once, so that a run or an evaluation resumes, on any machine, from what was uploaded.
"""

import hashlib
import json
import logging
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from udr.errors import ArtifactError, VerificationError
from udr.files import (
    RemoteFolder,
    cache_folder,
    canonical_json,
    check_format,
    locked,
    remote_url,
    sha256,
    write_atomically,
)

_LOG = logging.getLogger(__name__)

COPY_OF, CONTENTS, SEEN = "COPY_OF", "RUN.json", ".RUN.json"
"""In a copy, the file with the URL of its folder; on the store, the file that names the complete files; in a copy, what
that one was when the two were last the same."""

MARKS = frozenset({COPY_OF, SEEN, ".lock"})
"""The names of files that a copy has and its folder has not."""

_FORMAT, _LARGEST, _WAIT_SECONDS = 1, 64 << 20, 60.0
_UNFINISHED, _PASSING = ("checkpoints", "reward-checkpoints"), (".tmp", ".lock", "-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class _Stored:
    """A complete file on the store: the name that it has there, its size in bytes, and its content's hash."""

    name: str
    size: int
    sha256: str


def working_copy(place: Path) -> Path:
    """Return a directory on this machine: the place itself, or the copy of one on a remote store, as it is there.

    Raises:
        ArtifactError: the store does not answer, what is there is invalid, or the place lies in a run there.
        VerificationError: a file there is not what ``RUN.json`` says.
    """
    url = remote_url(place)
    if url is None:
        return place
    root = cache_folder() / "runs" / hashlib.sha256(url.encode()).hexdigest()[:16]
    root.mkdir(parents=True, exist_ok=True)
    with locked(root, _WAIT_SECONDS):
        write_atomically(root / COPY_OF, f"{url}\n".encode())
        content = contents(url)
        if content is None:
            _refuse_inside(url)
            if _seen(root) is not None:
                _LOG.warning("%s: has no %s any more; its copy, %s, is uploaded anew", url, CONTENTS, root)
                # Or what was uploaded once would not be again.
                (root / SEEN).unlink()
        # Else it goes on from what it did since: scores, and checkpoints of a training.
        if content is not None and content != _seen(root):
            _LOG.info("copying what is new of %s...", url)
            for path, file in _files(url, content).items():
                _fetch(url, file, root, path)
            write_atomically(root / SEEN, content)
    return root


def contents(url: str) -> bytes | None:
    """Return what names the complete files of a run or an evaluation at a URL; None if there is none."""
    return RemoteFolder(url).read(CONTENTS, _LARGEST)


def url_of(root: Path) -> str | None:
    """Return the URL of which a directory is the copy; None if it is none."""
    return (root / COPY_OF).read_text("utf-8").strip() if (root / COPY_OF).is_file() else None


def _refuse_inside(url: str) -> None:
    """Raise an ``ArtifactError`` if a new folder would lie in that of a run, whose files it might replace."""
    start, _, path = url.partition("://")
    folders = path.split("/")
    for length in range(len(folders) - 1, 0, -1):
        parent = f"{start}://{'/'.join(folders[:length])}"
        if folders[length - 1] and contents(parent) is not None:
            raise ArtifactError(f"{url}: lies in the folder of {parent}, which has a {CONTENTS}; give another URL")


def _fetch(url: str, file: _Stored, root: Path, path: str) -> None:
    """Copy a file of the folder into its copy, unless it is there."""
    target = root / path
    if not target.resolve().is_relative_to(root.resolve()):
        raise ArtifactError(f"{url}/{CONTENTS}: names a file outside its folder, {path!r}")
    if target.is_file() and sha256(target) == file.sha256:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.tmp")
    RemoteFolder(url).fetch(file.name, part)
    if sha256(part) != file.sha256:
        part.unlink()
        raise VerificationError(f"{url}/{file.name}: is damaged: its content is not what {CONTENTS} says")
    for left in ("-wal", "-shm"):
        # Of the database that it replaces.
        target.with_name(f"{target.name}{left}").unlink(missing_ok=True)
    part.replace(target)


def upload_copy(root: Path) -> None:
    """Upload what is complete in a directory and new, if it is the copy of one on a remote store.

    Raises:
        ArtifactError: the store does not answer, or another machine works on the same, too.
    """
    url = url_of(root)
    if url is None:
        return
    remote, stored = RemoteFolder(url), {} if (seen := _seen(root)) is None else _files(url, seen)
    files = dict[str, _Stored]()
    with tempfile.TemporaryDirectory(dir=root, prefix=".uploading") as folder:
        for path in _complete(root):
            source = root / path
            if source.suffix == ".sqlite":
                source = _snapshot(source, Path(folder) / hashlib.sha256(path.encode()).hexdigest())
            digest = sha256(source)
            known = stored.get(path)
            if known is not None and known.sha256 == digest:
                files[path] = known
                continue
            # What RUN.json names is never overwritten, or what is cut off here could not be resumed.
            name = path if known is None else f"{path}.{digest[:12]}"
            remote.put(name, source)
            files[path] = _Stored(name, source.stat().st_size, digest)
    is_new = _commit(root, remote, files, stored)
    # Nothing names these any more, so each file gets its own name, by which people look for it.
    for path, file in files.items():
        if file.name != path:
            remote.copy(file.name, path)
    own = {path: _Stored(path, file.size, file.sha256) for path, file in files.items()}
    if _commit(root, remote, own, files) or is_new:
        _LOG.debug("uploaded to %s", url)


def _commit(root: Path, remote: RemoteFolder, files: Mapping[str, _Stored], before: Mapping[str, _Stored]) -> bool:
    """Replace ``RUN.json``, then delete what only the one before names; return whether it was another."""
    seen = _seen(root)
    content = canonical_json(
        {"format": _FORMAT, "files": {path: [file.name, file.size, file.sha256] for path, file in files.items()}},
        indent=1,
    )
    if content == seen:
        return False
    remote.replace(CONTENTS, content, seen)
    write_atomically(root / SEEN, content)
    for name in {file.name for file in before.values()} - {file.name for file in files.values()}:
        remote.remove(name)
    return True


def _seen(root: Path) -> bytes | None:
    return (root / SEEN).read_bytes() if (root / SEEN).is_file() else None


def _files(url: str, content: bytes) -> Mapping[str, _Stored]:
    """Return the complete files of a folder on a store, by path."""
    try:
        read = json.loads(content)
        found = read["format"]
        files = {path: _Stored(str(name), int(size), str(hash)) for path, (name, size, hash) in read["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{url}/{CONTENTS}: is invalid") from error
    check_format(found, _FORMAT, url, "the command with another URL")
    return files


def _complete(root: Path) -> Iterator[str]:
    """Yield the paths of a directory's complete files."""
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        unfinished = any(part.startswith(".") or part in _UNFINISHED for part in parts)
        if path.is_file() and not unfinished and not parts[-1].endswith(_PASSING) and parts != (COPY_OF,):
            yield "/".join(parts)


def _snapshot(database: Path, copy: Path) -> Path:
    """Return a copy of a database as of its last transaction, whoever writes to it."""
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy
