"""Files on stores that fsspec knows: ``s3://``, ``gs://``, ``hf://``, ``file://``, ``memory://`` and others."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from udr.errors import ArtifactError, optional_import, reason
from udr.files.places import DISKS, store_errors
from udr.files.writing import copy_atomically, write_atomically

_CONDITIONAL = frozenset({"s3", "s3a"})
"""The protocols whose store replaces a file only if it is what the caller saw; other stores get a lock object."""


@dataclass(frozen=True, slots=True)
class RemoteFolder:
    """A folder on a remote store. All methods raise an ``ArtifactError`` if the store cannot be reached or refuses.

    Attributes:
        url: its URL, without a slash at the end.
    """

    url: str

    def read(self, name: str, most: int) -> bytes | None:
        """Return the content of a file of at most ``most`` bytes; None if there is none."""
        with store_errors(f"{self.url}/{name}"):
            try:
                content: bytes = self._system.cat_file(self._path(name), start=0, end=most + 1)
            except FileNotFoundError:
                return None
            except Exception:
                # Of an empty file, S3 has no such range.
                self._system.invalidate_cache()
                if self._system.size(self._path(name)) != 0:
                    raise
                content = b""
        if len(content) > most:
            raise ArtifactError(f"{self.url}/{name}: has more than {most} bytes")
        return content

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file to a path on this machine."""
        with store_errors(f"{self.url}/{name}"):
            self._system.get_file(self._path(name), str(path))

    def put(self, name: str, path: Path) -> None:
        """Copy a file of this machine to the store, on a disk all at once, as on S3."""
        with store_errors(f"{self.url}/{name}"):
            if self._protocol in DISKS:
                copy_atomically(path, Path(self._path(name)))
            else:
                self._system.put_file(str(path), self._path(name))

    def copy(self, name: str, other: str) -> None:
        """Copy a file there to another name there, as ``put``."""
        with store_errors(f"{self.url}/{name}"):
            if self._protocol in DISKS:
                copy_atomically(Path(self._path(name)), Path(self._path(other)))
            else:
                self._system.cp_file(self._path(name), self._path(other))

    def state(self, name: str) -> str | None:
        """Return what changes when a file does, its size included; None if there is none."""
        with store_errors(f"{self.url}/{name}"):
            self._system.invalidate_cache()
            try:
                info: Mapping[str, Any] = self._system.info(self._path(name))
            except FileNotFoundError:
                return None
        return f"{info['size']} {_tag(info)}"

    def remove(self, name: str) -> None:
        """Delete a file there."""
        with store_errors(f"{self.url}/{name}"):
            self._system.rm_file(self._path(name))

    def files(self) -> Mapping[str, tuple[int, str]]:
        """Return the size of each file below, and what changes when it does, by its path.

        Empty objects whose names end in a slash, by which consoles of S3 show folders, are no files.
        """
        with store_errors(self.url):
            self._system.invalidate_cache()
            found: Mapping[str, Mapping[str, Any]] = self._system.find(self._path(""), detail=True)
        start = len(self._path("").rstrip("/")) + 1
        return {
            path[start:]: (int(info["size"]), _tag(info))
            for path, info in sorted(found.items())
            if info["size"] or not path.endswith("/")
        }

    def replace(self, name: str, content: bytes, seen: bytes | None) -> None:
        """Replace a file, all at once, if its content is what was ``seen``; None if there was none.

        Raises:
            ArtifactError: it has another content, or somebody else replaces it now.
        """
        path = self._path(name)
        with store_errors(f"{self.url}/{name}"):
            if self._protocol not in _CONDITIONAL:
                self._replace_locked(name, content, seen)
                return
            if seen is None:
                condition = {"mode": "create"}
            else:
                self._system.invalidate_cache()
                condition = {"IfMatch": self._system.info(path)["ETag"]}
                self._refuse_change(name, seen)
            try:
                self._system.pipe_file(path, content, **condition)
            except OSError as error:
                if "pre-condition" not in str(error) and not isinstance(error, FileExistsError):
                    raise
                raise self._changed(name) from error

    def _replace_locked(self, name: str, content: bytes, seen: bytes | None) -> None:
        lock = self._path(f"{name}.lock")
        holder = f"process {os.getpid()} on {socket.gethostname()}".encode()
        try:
            self._create(lock, holder)
        except FileExistsError as error:
            holder = self._system.cat_file(lock).decode(errors="replace")[:200]
            raise ArtifactError(
                f"{self.url}/{name}: is being replaced by {holder}; wait until it ends, or, if it has died, delete "
                f"{self.url}/{name}.lock"
            ) from error
        try:
            self._refuse_change(name, seen)
            if self._protocol in DISKS:
                write_atomically(Path(self._path(name)), content)
            else:
                self._system.pipe_file(self._path(name), content)
        finally:
            self._system.rm_file(lock)

    def _create(self, path: str, content: bytes) -> None:
        """Write a file that must not exist."""
        if self._protocol not in DISKS:
            self._system.pipe_file(path, content, mode="create")
            return
        # There, fsspec looks before it writes, between which somebody else may.
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with Path(path).open("xb") as stream:
            stream.write(content)

    def _refuse_change(self, name: str, seen: bytes | None) -> None:
        if self.read(name, 1 << 20) != seen:
            raise self._changed(name)

    def _changed(self, name: str) -> ArtifactError:
        return ArtifactError(f"{self.url}/{name}: somebody else replaced it meanwhile; look at it, and try again")

    @property
    def _protocol(self) -> str:
        return self.url.partition("://")[0]

    @property
    def _system(self) -> Any:  # noqa: ANN401  # fsspec has no types
        return _opened(self.url, os.getpid())[0]

    def _path(self, name: str) -> str:
        root: str = _opened(self.url, os.getpid())[1]
        return f"{root}/{name}" if name else root


def _tag(info: Mapping[str, Any]) -> str:
    """Return what changes when a file does, of what its store tells of it."""
    known = ("ETag", "etag", "md5Hash", "sha256", "blob_id", "LastModified", "mtime", "created")
    return next((str(info[name]) for name in known if info.get(name)), "")


@lru_cache(maxsize=64)
def _opened(url: str, _process: int) -> tuple[Any, str]:
    """Return the file system of a URL, and the path there; a process that was forked cannot use its parent's."""
    protocol = url.partition("://")[0]
    with optional_import(f"what {protocol}:// needs", "remote"):
        import fsspec

        if protocol in _CONDITIONAL:
            import s3fs  # noqa: F401
    try:
        system, path = fsspec.core.url_to_fs(url, **({"auto_mkdir": True} if protocol in DISKS else {}))
    except ImportError as error:
        # It names the package.
        raise ArtifactError(f"{url}: {reason(error)}") from error
    except ValueError as error:
        raise ArtifactError(f"{url}: no store is known by {protocol}://") from error
    return system, path.rstrip("/")
