"""An index on a remote store: an index directory there, and a copy of the versions that were needed on this machine.

The copy is an index directory, too, whose ``CURRENT`` is the last version that was asked for. Files get their names in
it once they match the manifest's checksums, so everything that opens local indexes opens it, mapped into memory.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from udr.errors import ArtifactError, VerificationError
from udr.files import (
    RemoteFolder,
    cache_folder,
    expanded,
    locked,
    remote_url,
    sha256,
    sync,
    sync_tree,
    write_atomically,
)
from udr.store.manifest import Manifest, parse_manifest
from udr.store.remote.log import WAIT_SECONDS, RemoteLog
from udr.store.searching import SEARCH
from udr.store.version import (
    COPY_OF,
    CURRENT,
    LARGEST_CURRENT,
    LARGEST_MANIFEST,
    MANIFEST,
    VERSIONS,
    current_version,
    find_current,
    publish,
    read_manifest,
    refuse_wording,
    version_path,
)

_LOG = logging.getLogger(__name__)

_LARGEST_SEARCH = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RemoteIndex:
    """An index on a remote store. All methods raise an ``ArtifactError`` if it cannot be reached or is no index.

    Attributes:
        url: its URL.
        root: the index directory that holds its copy: a folder below ``UDR_CACHE``.
    """

    url: str
    root: Path = field(init=False)

    def __post_init__(self) -> None:
        name = hashlib.sha256(self.url.encode()).hexdigest()[:16]
        object.__setattr__(self, "root", cache_folder() / "indexes" / name)

    @classmethod
    def at(cls, place: str | Path) -> "RemoteIndex | None":
        """Return the index at a URL; None if the place is on this machine."""
        url = remote_url(place)
        return None if url is None else cls(url)

    @property
    def _folder(self) -> RemoteFolder:
        return RemoteFolder(self.url)

    def current(self) -> str:
        """Return the name of the published version."""
        content = self._folder.read(CURRENT, LARGEST_CURRENT)
        if content is None:
            raise ArtifactError(f"{self.url}: no index here (no file {CURRENT}); run: udr index build --out {self.url}")
        return current_version(content, f"{self.url}/{CURRENT}")

    def manifest(self) -> Manifest:
        """Return the manifest of the published version, which is not copied."""
        return self._manifest(self.current())[0]

    def fetch(self, version: str | None = None) -> str:
        """Copy a version, by default the published one, unless it is there; make it the copy's current one.

        Returns its name. A named version that was copied before opens while the store does not answer, too; one that is
        current in the copy, while another command works in it.

        Raises:
            VerificationError: a file does not match the manifest.
        """
        version = version or self.current()
        folder = version_path(self.root, version)
        if find_current(self.root) != version:
            self.prepare()
            with locked(self.root, WAIT_SECONDS):
                if not folder.is_dir():
                    self._copy(version, folder)
                publish(self.root, version)
        try:
            self._refresh_settings(version, folder)
        except ArtifactError as error:
            _LOG.warning("version %s keeps the search settings of its copy: %s", version, error)
        return version

    def fetch_settings(self, version: str) -> None:
        """Copy the search settings and hybrid weights of a version, if it was copied; they may have changed since.

        It takes no lock, so a build, which may hold the copy's lock for hours, does not keep a service waiting.
        """
        folder = version_path(self.root, version)
        if folder.is_dir():
            self._refresh_settings(version, folder)

    def fetch_writes(self) -> None:
        """Copy the log of what is written to the index, if it is another than the last time; see ``RemoteLog``."""
        RemoteLog(self._folder, self.current).fetch(self.root, self.prepare)

    def upload_writes(self, root: Path) -> None:
        """Copy the log of what is written to the index directory at ``root`` to the store; see ``RemoteLog``."""
        RemoteLog(self._folder, self.current).upload(root)

    def prepare(self) -> None:
        """Make the folder of the copy."""
        self.root.mkdir(parents=True, exist_ok=True)
        if not (self.root / COPY_OF).is_file():
            write_atomically(self.root / COPY_OF, f"{self.url}\n".encode())

    def upload(self, folder: Path) -> None:
        """Copy the version in a folder to the store, its manifest last.

        Of a version that is whole there, only the search settings are copied.

        Raises:
            ArtifactError: it has another wording.
        """
        manifest = read_manifest(folder)
        refuse_wording(manifest, folder)
        name, stored = f"{VERSIONS}/{manifest.version}", self._folder.files()
        # Builds of one version on two machines may differ in the last bits of vectors: their files must not be mixed.
        is_whole = f"{name}/{MANIFEST}" in stored and not self._missing(self._manifest(manifest.version)[0], stored)
        for file in [SEARCH] if is_whole else [*manifest.files, SEARCH, MANIFEST]:
            if file != SEARCH or (folder / SEARCH).is_file():
                self._folder.put(f"{name}/{file}", folder / file)

    def publish(self, version: str) -> str | None:
        """Make a version there the current one, all at once; return the one that was current before.

        Raises:
            ArtifactError: there is no such version, it has another wording, or somebody else publishes meanwhile.
            VerificationError: a file of it is missing or has another size.
        """
        (manifest, _), stored = self._manifest(version), self._folder.files()
        refuse_wording(manifest, f"{self.url}/{VERSIONS}/{version}")
        if problem := self._missing(manifest, stored):
            raise VerificationError(f"{self.url}/{VERSIONS}/{version}/{problem}; it was not published")
        seen = self._folder.read(CURRENT, LARGEST_CURRENT)
        previous = None if seen is None else current_version(seen, f"{self.url}/{CURRENT}")
        if previous != version:
            self._folder.replace(CURRENT, f"{version}\n".encode(), seen)
        return previous

    def versions(self) -> list[str]:
        """Return the names of the versions there that are complete."""
        parts = (name.split("/") for name in self._folder.files())
        return sorted(part[1] for part in parts if len(part) == 3 and part[0] == VERSIONS and part[2] == MANIFEST)

    @staticmethod
    def _missing(manifest: Manifest, stored: Mapping[str, tuple[int, str]]) -> str | None:
        """Return the first file of a version that is missing there, or has another size, and which; None if none is."""
        for file, stamp in manifest.files.items():
            size, _ = stored.get(f"{VERSIONS}/{manifest.version}/{file}", (None, ""))
            if size != stamp.size:
                found = "is missing" if size is None else f"has {size} bytes, the manifest says {stamp.size}"
                return f"{file}: {found}"
        return None

    def _manifest(self, version: str) -> tuple[Manifest, bytes]:
        """Return the manifest of a version, and the content of its file."""
        place = f"{self.url}/{VERSIONS}/{version}/{MANIFEST}"
        content = self._folder.read(f"{VERSIONS}/{version}/{MANIFEST}", LARGEST_MANIFEST)
        if content is None:
            raise ArtifactError(f"{place}: no such file; the index has no complete version of this name")
        try:
            manifest = parse_manifest(content)
        except ArtifactError as error:
            raise type(error)(f"{place}: {error}") from error
        if manifest.version != version:
            raise VerificationError(f"{place}: is of version {manifest.version}")
        return manifest, content

    def _copy(self, version: str, folder: Path) -> None:
        manifest, content = self._manifest(version)
        size = sum(stamp.size for stamp in manifest.files.values())
        _LOG.info("copying version %s of %s, %.0f MB...", version, self.url, size / 1e6)
        staging = self.root / f".building-{version}"
        staging.mkdir(exist_ok=True)
        for name, stamp in manifest.files.items():
            path = staging / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file() and sha256(path) == stamp.sha256:
                # Of a copy that was interrupted.
                continue
            part = path.with_name(f".{path.name}.tmp")
            self._folder.fetch(f"{VERSIONS}/{version}/{name}", part)
            if (found := part.stat().st_size) != stamp.size or sha256(part) != stamp.sha256:
                part.unlink()
                raise VerificationError(
                    f"{self.url}/{VERSIONS}/{version}/{name}: is damaged: {found} bytes; its content is not what the "
                    f"manifest says, {stamp.size} bytes with sha256 {stamp.sha256[:12]}…"
                )
            part.replace(path)
        self._refresh_settings(version, staging)
        write_atomically(staging / MANIFEST, content)
        sync_tree(staging)
        folder.parent.mkdir(exist_ok=True)
        staging.rename(folder)
        sync(folder.parent)

    def _refresh_settings(self, version: str, folder: Path) -> None:
        """Copy the search settings, which may change after the build."""
        content, path = self._folder.read(f"{VERSIONS}/{version}/{SEARCH}", _LARGEST_SEARCH), folder / SEARCH
        if content is not None and not (path.is_file() and path.read_bytes() == content):
            write_atomically(path, content)


def local_index(place: str | Path) -> Path:
    """Return a place's index directory: itself, or the copy of its current version if it is on a remote store.

    A ``~`` at the start stands for a home folder.
    """
    remote = RemoteIndex.at(place)
    if remote is None:
        return expanded(place)
    remote.fetch()
    return remote.root
