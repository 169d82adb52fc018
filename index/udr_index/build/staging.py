"""The staging folder of an index version, where it is built, and renamed once it is complete.

``DIR/.building-<vectors>/`` is named after everything that the vectors depend on. A build that resumes keeps finished
shards, and the faiss indexes if it builds the same version.
"""

import logging
import shutil
from array import array
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from udr import store
from udr.data import input_words
from udr.errors import ModelError, PartialError
from udr.files import sha256, sync, sync_tree, write_atomically
from udr.models import Encoder, LoadedTokenizer, ScatteredEncoder, hub
from udr.search import BM25Search, find_gpu
from udr_index.build.config import BuildConfig
from udr_index.build.encoding import TaskEncoding
from udr_index.build.export import copy_export
from udr_index.build.faiss_index import build_partition
from udr_index.build.heads import LabelHeads
from udr_index.build.ingest import IngestedRows, open_unsafe
from udr_index.build.progress import OnProgress, Stage
from udr_index.build.reuse import PreviousVersion, write_measured
from udr_index.plural import counted

_LOG = logging.getLogger(__name__)

_MADE_FOR = "made-for"
"""In a staging folder, the file that names the version of the faiss indexes there."""


@dataclass(frozen=True, kw_only=True)
class StagedVersion:
    """A version that is being built in the folder ``path``; its manifest does not list the files yet."""

    path: Path
    config: BuildConfig
    manifest: store.Manifest
    encoder: Encoder
    tokenizer: LoadedTokenizer | None
    model: Path | None
    exported: Path | None
    previous: PreviousVersion | None
    measured: store.IndexVersion | None
    on_progress: OnProgress

    def finish(self, rows: IngestedRows, folder: Path) -> int:
        """Make what is missing, rename the staging folder to ``folder``, and return how many texts were encoded."""
        self.path.mkdir(exist_ok=True)
        # Of somebody else's index, a build may seem to resume.
        for path in (self.path, *self.path.rglob("*")):
            store.refuse_outside(path, self.path.parent.resolve())
        rows.path.replace(self.path / store.DEMONSTRATIONS)
        # Tokens are counted and words are indexed anew by each build: both take a small part of its time.
        self._count_tokens(rows)
        self._drop_other_indexes()
        encoded = self._encode(rows)
        heads = LabelHeads(self.path, self.manifest, self.encoder, self.config, self.on_progress).finish()
        staged = replace(self, manifest=heads.manifest)
        return staged._publish(folder, encoded + heads.encoded)

    def _publish(self, folder: Path, encoded: int) -> int:
        """Index what is encoded, rename the staging folder to ``folder``, and return how many texts were encoded."""
        self._index_vectors()
        self._index_words()
        if self.model is not None:
            self._copy_model(self.model)
        self._copy_export()
        manifest = replace(self.manifest, files=self._stamps())
        # Of a killed build; the stars match a file that it was writing.
        for path in self.path.glob(f"*{store.SEARCH}*"):
            path.unlink()
        write_measured(self.measured, self.path, manifest)
        sync_tree(self.path)
        (self.path / _MADE_FOR).unlink()
        write_atomically(self.path / store.MANIFEST, manifest.to_bytes())
        self.path.rename(folder)
        sync(folder.parent)
        _LOG.info("built %s: %s", folder, counted(len(manifest.partitions), "task"))
        return encoded

    def _count_tokens(self, rows: IngestedRows) -> None:
        if self.tokenizer is None:
            return
        parts, path = self.manifest.partitions, self.path / store.DEMONSTRATIONS
        stage = self._stage("counted", parts)
        counts: dict[str, array[int]] = {}
        with closing(store.DemonstrationTable(path)) as table:
            for name, part in parts.items():
                encoding = self._encoding(table, rows, part)
                counts[name] = array("I", encoding.token_counts(self.tokenizer, stage.advance))
        # The table is opened as a file that does not change, so it is closed before this.
        for name, numbers in counts.items():
            with closing(open_unsafe(path)) as connection, connection:
                values = ((name, *item) for item in enumerate(numbers))
                connection.executemany("INSERT INTO tokens VALUES (?, ?, ?)", values)

    def _drop_other_indexes(self) -> None:
        """Delete the indexes of another version with the same vectors."""
        mark, version = self.path / _MADE_FOR, self.manifest.version.encode()
        if mark.is_file() and mark.read_bytes() == version:
            return
        # The stars match files that a killed build was writing.
        for path in self.path.glob("partitions/*/*index.faiss*"):
            path.unlink()
        write_atomically(mark, version)

    def _encode(self, rows: IngestedRows) -> int:
        parts = self.manifest.partitions
        advance = self._stage("encoded", parts).advance
        with closing(store.DemonstrationTable(self.path / store.DEMONSTRATIONS)) as table:
            encoded, failures = 0, list[PartialError]()
            for part in parts.values():
                try:
                    encoded += self._encoding(table, rows, part).finish(advance)
                except PartialError as error:
                    failures.append(error)
        if isinstance(self.encoder, ScatteredEncoder):
            _LOG.info("%s", self.encoder.note)
            if failures:
                raise self.encoder.failure() or failures[0]
        return encoded

    def _encoding(self, table: store.DemonstrationTable, rows: IngestedRows, part: store.Partition) -> TaskEncoding:
        return TaskEncoding(self.path, table, rows, part, self.encoder, self.config, self.previous)

    def _index_vectors(self) -> None:
        parts = {name: part for name, part in self.manifest.partitions.items() if part.kind != store.FLAT}
        stage = self._stage("indexed", parts)
        gpu = find_gpu(self.config.device) if parts else None
        version = store.IndexVersion(self.path, self.manifest)
        for name, part in parts.items():
            path = self.path / store.index_path(name)
            if not path.is_file():
                vectors, head = version.vectors(name), version.label_head(name)
                rows = vectors if head is None else head.rows(vectors)
                build_partition(path, part.kind, rows, self.config.threads, gpu)
            stage.advance(part.count)

    def _index_words(self) -> None:
        with closing(store.DemonstrationTable(self.path / store.DEMONSTRATIONS)) as table:
            for name, part in self.manifest.partitions.items():
                folder = self.path / store.bm25_path(name)
                shutil.rmtree(folder, ignore_errors=True)
                if part.lexical:
                    rows = table.every(name)
                    texts = (input_words(part.task, row.input, row.choices) for row in rows)
                    BM25Search(texts, part.lexical).save(folder)

    def _copy_model(self, model: Path) -> None:
        """Copy the encoder into the version, so that the index can move to another machine."""
        copy = self.path / store.MODEL
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(model, copy)
        if hub.fingerprint(copy) != self.encoder.fingerprint:
            raise ModelError(f"model {self.encoder.name!r} changed while the index was built; run the build again")

    def _copy_export(self) -> None:
        """Copy the encoder's export, or delete that of another version with the same vectors."""
        if self.exported is not None:
            copy_export(self.exported, self.path)
        else:
            shutil.rmtree(self.path / store.ENCODER, ignore_errors=True)

    def _stamps(self) -> dict[str, store.FileStamp]:
        """Return size and sha256 of every file but the manifest and the search settings."""
        parts = self.manifest.partitions
        paths = [self.path / store.vectors_path(name) for name in parts]
        paths += [self.path / store.index_path(name) for name, part in parts.items() if part.kind != store.FLAT]
        folders = [self.path / of(name) for name in parts for of in (store.bm25_path, store.label_head_path)]
        folders += [self.path / name for name in (store.MODEL, store.ENCODER)]
        paths += [self.path / store.DEMONSTRATIONS]
        paths += [path for folder in folders for path in folder.rglob("*")]
        return stamps(self.path, paths)

    def _stage(self, name: str, parts: Mapping[str, store.Partition]) -> Stage:
        return Stage(name, sum(part.count for part in parts.values()), self.on_progress)


def stamps(folder: Path, paths: Iterable[Path]) -> dict[str, store.FileStamp]:
    """Return size and sha256 of the files among these paths, by their path in the version's folder."""
    return {
        path.relative_to(folder).as_posix(): store.FileStamp(size=path.stat().st_size, sha256=sha256(path))
        for path in paths
        if path.is_file()
    }
