"""The label heads of a version that is being built: which tasks get one, and its files."""

import logging
import shutil
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from udr import store
from udr.data import row_query
from udr.files import write_atomically
from udr.models import Encoder
from udr_index.build.config import BuildConfig
from udr_index.build.encoding import encode_by_length
from udr_index.build.faiss_index import label_width
from udr_index.build.label_head import Fitted, considered, fit, rows_to_fit
from udr_index.build.progress import OnProgress, Stage

_LOG = logging.getLogger(__name__)

_TOO_FEW = f"it takes 2 to {store.MOST_LABELS} labels in the pool, two of them with two rows at least, and 10 rows"


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenHeads:
    """The manifest, which describes the heads, and how many texts were encoded to fit them."""

    manifest: store.Manifest
    encoded: int


@dataclass(frozen=True)
class LabelHeads:
    """Fits the label heads of a version in its staging folder, whose vectors are complete."""

    path: Path
    manifest: store.Manifest
    encoder: Encoder
    config: BuildConfig
    on_progress: OnProgress

    def finish(self) -> WrittenHeads:
        """Write the heads of the tasks that get one, anew in each build."""
        parts, encoded = dict(self.manifest.partitions), 0
        tasks = [name for name, part in parts.items() if considered(part, self.config.label_head)]
        fitted = {name: rows_to_fit(parts[name].count) for name in tasks}
        stage = Stage("fitted", sum(map(len, fitted.values())), self.on_progress)
        version = store.IndexVersion(self.path, self.manifest)
        for name in parts:
            shutil.rmtree(self.path / store.label_head_path(name), ignore_errors=True)
        with closing(store.DemonstrationTable(self.path / store.DEMONSTRATIONS)) as table:
            for name, positions in fitted.items():
                part, labels = parts[name], table.targets(name)
                head = None
                if len(set(labels)) > 1:
                    texts = [row_query(part.task, row) for row in table.rows(name, positions.tolist())]
                    size, encoded = self.config.batch_size, encoded + len(texts)
                    queries = encode_by_length(self.encoder, texts, name, size, role="query")
                    width = partial(label_width, part.kind, self.encoder.dimension)
                    head = fit(queries, positions, version.vectors(name), labels, width)
                stage.advance(len(positions))
                if head is None and self.config.label_head:
                    _LOG.warning("task %s: no label head: %s", name, _TOO_FEW)
                if head is not None and self._keeps(name, head):
                    self._write(name, head)
                    parts[name] = replace(part, label_head=head.stamp)
        return WrittenHeads(manifest=replace(self.manifest, partitions=parts), encoded=encoded)

    def _keeps(self, name: str, fitted: Fitted) -> bool:
        """Return whether a task gets the head that was fitted, and log why."""
        kept, stamp = self.config.label_head is True or fitted.gains, fitted.stamp
        shares = f"{stamp.share_without:.3f} of the nearest have a row's label, {stamp.share:.3f} with it"
        _LOG.info("task %s: %s label head: %s", name, "a" if kept else "no", shares)
        return kept

    def _write(self, name: str, fitted: Fitted) -> None:
        folder = self.path / store.label_head_path(name)
        folder.mkdir(parents=True)
        for file, array in ((store.WEIGHTS, fitted.head.weights), (store.CODES, fitted.head.codes)):
            write_atomically(folder / file, partial(np.save, arr=array, allow_pickle=False))
