"""Backup and restore: an index as one file, a tar archive, with a checksum of each of its files.

It starts with ``udr-backup.json``, which lists the files; these follow by name. A backup has the current version
and the log of writes, as they were together at one moment.
"""

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from udr.errors import ArtifactError, ConfigError, VerificationError, naming
from udr.files import (
    canonical_json,
    check_format,
    refuse_existing,
    refuse_remote,
    sha256,
    whole_folder,
    write_atomically,
)
from udr.store import (
    LIVE,
    SEARCH_TEMPORARY,
    VERSION_NAME,
    VERSIONS,
    FileStamp,
    open_version,
    publish,
    read_current,
    refuse_damage,
    verify,
)
from udr.store.live import LOG, WriteLog, read_writes
from udr.types import Json
from udr_index.lock import lock_index

FORMAT = 1

_CONTENTS = "udr-backup.json"
_LARGEST_CONTENTS = 64 * 1024 * 1024
_SPAN = 1024 * 1024
_LOG_PATH = f"{LIVE}/{LOG}"


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup has.

    Attributes:
        version: the index version.
        position: the position of the last write.
        files: the size and checksum of each file, by its path in the index.
    """

    version: str
    position: int
    files: Mapping[str, FileStamp]

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(stamp.size for stamp in self.files.values())


def backup(root: Path, out: Path, *, wait_seconds: float = 60) -> Backup:
    """Write the current version of an index, and all that was written on top of it by now, to one file.

    Services go on meanwhile, and take writes. Commands that make, publish or delete versions are refused.

    Args:
        root: the index directory.
        out: the file, which must not exist.
        wait_seconds: how long to wait for another command that holds the lock.

    Raises:
        ConfigError: the file exists.
        ArtifactError: there is no index, or another command is running in it.
        VerificationError: the version or the log is damaged.
        OSError: the file cannot be written; what was written of it is removed.
    """
    refuse_existing(out)
    # Before the lock, which makes the directory.
    read_current(root)
    with lock_index(root, wait_seconds):
        version = open_version(root)
        refuse_damage(version.path)
        log, position = _log(root)
        folder = f"{VERSIONS}/{version.manifest.version}"
        known = {f"{folder}/{name}": stamp for name, stamp in version.manifest.files.items()}
        files: dict[str, FileStamp] = {}
        for path in sorted(version.path.rglob("*")):
            if path.is_file() and path.name != SEARCH_TEMPORARY:
                name = path.relative_to(root).as_posix()
                files[name] = known.get(name) or FileStamp(size=path.stat().st_size, sha256=sha256(path))
        if log:
            files[_LOG_PATH] = FileStamp(size=len(log), sha256=hashlib.sha256(log).hexdigest())
        made = Backup(version.manifest.version, position, dict(sorted(files.items())))

        def write(stream: BinaryIO) -> None:
            with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
                _add(archive, _CONTENTS, io.BytesIO(content := _to_json(made)), len(content))
                for name, stamp in made.files.items():
                    if name == _LOG_PATH:
                        _add(archive, name, io.BytesIO(log), stamp.size)
                    else:
                        with (root / name).open("rb") as source:
                            _add(archive, name, source, stamp.size)

        write_atomically(out, write)
    return made


def restore(path: Path, root: Path) -> Backup:
    """Make an index directory of a backup, once every file is there with the checksum that it had.

    Args:
        path: the backup.
        root: the index directory, which must not exist.

    Raises:
        ConfigError: the directory exists.
        ArtifactError: the file is no backup, or of another format.
        VerificationError: it is damaged or incomplete; nothing remains of what was restored.
        OSError: it cannot be read, or the directory not written; nothing remains of what was restored.
    """
    refuse_remote(root)
    if root.exists() or root.is_symlink():
        raise ConfigError(f"{root} exists; name a folder that does not, or remove it")
    with path.open("rb") as stream, naming(root), whole_folder(root) as staging:
        try:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                made = _contents(path, archive)
                for name, stamp in made.files.items():
                    _extract(path, archive, name, stamp, staging / name)
        except tarfile.TarError as error:
            raise ArtifactError(f"{path}: is no backup of an index, or is damaged ({error})") from error
        (staging / VERSIONS).mkdir(exist_ok=True)
        publish(staging, made.version)
        if findings := verify(staging):
            raise VerificationError(f"{path}: is damaged: {findings[0]}")
    return made


def _log(root: Path) -> tuple[bytes, int]:
    """Return the log of writes, up to the last one that is complete, and its position."""
    log = WriteLog(root / LIVE)
    try:
        read_writes(log)
        return log.content(), log.position
    finally:
        log.close()


def _add(archive: tarfile.TarFile, name: str, source: BinaryIO, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    archive.addfile(info, source)


def _to_json(made: Backup) -> bytes:
    files: dict[str, Json] = {name: [stamp.size, stamp.sha256] for name, stamp in made.files.items()}
    return canonical_json({"format": FORMAT, "version": made.version, "position": made.position, "files": files})


def _contents(path: Path, archive: tarfile.TarFile) -> Backup:
    first = archive.next()
    if first is None or first.name != _CONTENTS or not first.isreg() or first.size > _LARGEST_CONTENTS:
        raise ArtifactError(f"{path}: is no backup of an index; udr index backup makes one")
    with suppress(ValueError, KeyError, TypeError, RecursionError):
        keys = json.loads(_read(path, archive, first))
        check_format(keys["format"], FORMAT, str(path), "udr index backup")
        files = {name: FileStamp(size=int(size), sha256=str(digest)) for name, (size, digest) in keys["files"].items()}
        made = Backup(str(keys["version"]), int(keys["position"]), files)
        # A file that is longer than the archive is one of holes, which would fill the disk.
        sane = 0 <= made.size <= path.stat().st_size and re.fullmatch(VERSION_NAME, made.version)
        if sane and all(_inside(name, made.version) for name in files):
            return made
    raise VerificationError(f"{path}: is damaged: its list of files is altered; restore another backup")


def _inside(name: str, version: str) -> bool:
    """Return whether a file is one of a backup: the log, or one in the folder of the version."""
    parts = name.split("/")
    within = len(parts) > 2 and parts[:2] == [VERSIONS, version] and not {"", ".", ".."} & {*parts}
    return name == _LOG_PATH or (within and "\0" not in name)


def _extract(path: Path, archive: tarfile.TarFile, name: str, stamp: FileStamp, target: Path) -> None:
    info = archive.next()
    if info is None or info.name != name or not info.isreg() or info.size != stamp.size:
        raise VerificationError(f"{path}: is damaged: {name} is missing or altered; restore another backup")
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, left = hashlib.sha256(), info.size
    source = cast("io.BufferedIOBase", archive.extractfile(info))
    with target.open("xb") as stream:
        while block := source.read(_SPAN):
            digest.update(block)
            stream.write(block)
            left -= len(block)
    if left or digest.hexdigest() != stamp.sha256:
        raise VerificationError(f"{path}: is damaged: {name} has another checksum; restore another backup")


def _read(path: Path, archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    source = cast("io.BufferedIOBase", archive.extractfile(info))
    content = source.read()
    if len(content) != info.size:
        raise VerificationError(f"{path}: is damaged: it ends early; restore another backup")
    return content
