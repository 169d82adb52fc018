"""Run directories on a remote store: a copy on this machine, uploaded after each stage.

The store's folder has the files of the run directory, and ``RUN.json``, which names those that are complete. It is
replaced last, all at once, so that a run resumes, on any machine, from the end of a stage.
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
"""In a copy, the file with the URL of its run; on the store, the file that names the complete files; in a copy, what
that one was when the two were last the same."""

_FORMAT, _LARGEST, _WAIT_SECONDS = 1, 64 << 20, 60.0
_UNFINISHED = ("checkpoints", "reward-checkpoints")
_PASSING = (".tmp", ".lock", "-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class _Stored:
    """A complete file on the store: the name that it has there, its size in bytes, and its content's hash."""

    name: str
    size: int
    sha256: str


def local_run(place: Path) -> Path:
    """Return a run directory on this machine: the place itself, or the copy of a run on a remote store, as it is there.

    Raises:
        ArtifactError: the store does not answer, or the run there is invalid.
        VerificationError: a file there is not what ``RUN.json`` says.
    """
    url = remote_url(place)
    if url is None:
        return place
    root = cache_folder() / "runs" / hashlib.sha256(url.encode()).hexdigest()[:16]
    root.mkdir(parents=True, exist_ok=True)
    with locked(root, _WAIT_SECONDS):
        write_atomically(root / COPY_OF, f"{url}\n".encode())
        content = RemoteFolder(url).read(CONTENTS, _LARGEST)
        # Else it goes on from what it did since: scores, and checkpoints of a training.
        if content is not None and content != _seen(root):
            for path, file in _files(url, content).items():
                _fetch(url, file, root, path)
            write_atomically(root / SEEN, content)
    return root


def _fetch(url: str, file: _Stored, root: Path, path: str) -> None:
    """Copy a file of a run into its copy, unless it is there."""
    target = root / path
    if not target.resolve().is_relative_to(root.resolve()):
        raise ArtifactError(f"{url}/{CONTENTS}: names a file outside the run, {path!r}")
    if target.is_file() and sha256(target) == file.sha256:
        return
    _LOG.info("copying %s of %s...", path, url)
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


def upload_run(root: Path) -> None:
    """Upload what is complete in a run directory and new, if it is the copy of one on a remote store.

    Raises:
        ArtifactError: the store does not answer, or another machine works on the run, too.
    """
    if not (root / COPY_OF).is_file():
        return
    url = (root / COPY_OF).read_text("utf-8").strip()
    remote, seen = RemoteFolder(url), _seen(root)
    stored = {} if seen is None else _files(url, seen)
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
            # What RUN.json names is never overwritten, or a run that is cut off here could not be resumed.
            name = path if known is None else f"{path}.{digest[:12]}"
            remote.put(name, source)
            files[path] = _Stored(name, source.stat().st_size, digest)
    content = canonical_json(
        {"format": _FORMAT, "files": {path: [file.name, file.size, file.sha256] for path, file in files.items()}},
        indent=1,
    )
    if content != seen:
        remote.replace(CONTENTS, content, seen)
        write_atomically(root / SEEN, content)
        kept = {file.name for file in files.values()}
        for file in stored.values():
            if file.name not in kept:
                remote.remove(file.name)
        _LOG.info("uploaded to %s", url)


def _seen(root: Path) -> bytes | None:
    return (root / SEEN).read_bytes() if (root / SEEN).is_file() else None


def _files(url: str, content: bytes) -> Mapping[str, _Stored]:
    """Return the complete files of a run on a store, by path."""
    try:
        read = json.loads(content)
        found = read["format"]
        files = {path: _Stored(str(name), int(size), str(hash)) for path, (name, size, hash) in read["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{url}/{CONTENTS}: is invalid") from error
    check_format(found, _FORMAT, f"the run {url}", "udr train with another --out")
    return files


def _complete(root: Path) -> Iterator[str]:
    """Yield the paths of a run's complete files."""
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        unfinished = any(part.startswith(".") or part.endswith(".partial") or part in _UNFINISHED for part in parts)
        if path.is_file() and not unfinished and not parts[-1].endswith(_PASSING) and parts != (COPY_OF,):
            yield "/".join(parts)


def _snapshot(database: Path, copy: Path) -> Path:
    """Return a copy of a database as of its last transaction, whoever writes to it."""
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy
