"""The label heads of a version that is being built: which tasks get one, and its files."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeGuard

import numpy as np

from udr import store
from udr.data import copy_key, copy_text, field_texts, row_query
from udr.files import write_atomically
from udr.models import Encoder, encode_by_length, trained_tasks
from udr.search import PASSES, Vectors
from udr_index.build.config import BuildConfig
from udr_index.build.faiss_index import label_width
from udr_index.build.label_head import Fitted, considered, fields_apart, fit, rows_to_fit
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
        """Write the heads of the tasks that get one, again in each build."""
        parts, encoded = dict(self.manifest.partitions), 0
        for name in parts:
            shutil.rmtree(self.path / store.label_head_path(name), ignore_errors=True)
        with closing(store.DemonstrationTable(self.path / store.DEMONSTRATIONS)) as table:
            rows = {
                name: _distinct(table, part) for name, part in parts.items() if considered(part, self.config.label_head)
            }
            texts = {name: len(own) * (1 + (PASSES if self._apart(parts[name]) else 0)) for name, own in rows.items()}
            stage = Stage("fitted", sum(texts.values()), self.on_progress)
            for name, own in rows.items():
                part, labels, fitted, left = parts[name], table.targets(name), None, texts[name]
                # To encode rows as queries takes most of the time.
                if len(set(labels)) > 1:
                    fitted, read = self._fitted(part, own, table, labels, stage)
                    encoded, left = encoded + read, left - read
                if left:
                    stage.advance(left)
                if self._keeps(fitted, name):
                    self._write(name, fitted)
                    parts[name] = replace(part, label_head=fitted.stamp)
        return WrittenHeads(manifest=replace(self.manifest, partitions=parts), encoded=encoded)

    def _fitted(
        self,
        part: store.Partition,
        by_text: Mapping[str, int],
        table: store.DemonstrationTable,
        labels: Sequence[str],
        stage: Stage,
    ) -> tuple[Fitted | None, int]:
        """Fit a task's head on rows of its pool, see ``fit``; return it, and how many texts were encoded."""
        name, names = part.task.name, self._apart(part)
        positions, copies = list(by_text.values()), np.full(part.count, -1, np.int64)
        rows = list(table.rows(name, positions))
        for number, (text, row) in enumerate(zip(by_text, rows, strict=True)):
            found = list(table.copies(name, [copy_key(part.task, row.input, row.choices)]))
            others = zip(found, table.rows(name, found), strict=True)
            copies[[position for position, other in others if copy_text(part.task, other) == text]] = number
        encoded = len(rows)
        queries = self._encoded([row_query(part.task, row) for row in rows], name, stage)

        def of_fields() -> Vectors:
            nonlocal encoded
            encoded += PASSES * len(rows)
            texts = zip(*(field_texts(row.input, names, row.choices) for row in rows), strict=True)
            return np.stack([self._encoded(own, name, stage) for own in texts], axis=1)

        vectors = store.IndexVersion(self.path, self.manifest).vectors(name)
        width = partial(label_width, part.kind, self.encoder.dimension)
        fields = (names, of_fields) if names else None
        # Encoders of the caller's own have no files.
        folder: Path | None = getattr(self.encoder, "path", None)
        trained = folder is not None and name in trained_tasks(folder)
        fitted = fit(queries, np.array(positions, np.int64), vectors, labels, copies, width, fields, trained)
        return fitted, encoded

    def _apart(self, part: store.Partition) -> tuple[str, ...]:
        return fields_apart(part) if self.config.head_fields else ()

    def _encoded(self, texts: Sequence[str], name: str, stage: Stage) -> Vectors:
        return encode_by_length(self.encoder, texts, name, self.config.batch_size, stage.advance, role="query")

    def _keeps(self, fitted: Fitted | None, name: str) -> TypeGuard[Fitted]:
        """Return whether a task gets the head that was fitted, and log why."""
        if fitted is None:
            level = logging.WARNING if self.config.label_head else logging.INFO
            _LOG.log(level, "task %s: no label head: %s", name, _TOO_FEW)
            return False
        kept, stamp = self.config.label_head is True or fitted.gains, fitted.stamp
        if kept:
            what = "searches also rank by the likely label"
            more = f"; its label head reads {' and '.join(stamp.fields)} apart" if stamp.fields else ""
        else:
            what = "ranking by the likely label as well gains too little"
            more = "; an encoder that was trained on this pool hides a gain: compare with --label-head"
        before, after = 100 * stamp.share_without, 100 * stamp.share
        shares = f"{before:.1f} % of the nearest demonstrations have the right label, {after:.1f} %"
        _LOG.info("task %s: %s (%s with it)%s", name, what, shares, more)
        return kept

    def _write(self, name: str, fitted: Fitted) -> None:
        folder = self.path / store.label_head_path(name)
        folder.mkdir(parents=True)
        for file, array in ((store.WEIGHTS, fitted.head.weights), (store.CODES, fitted.head.codes)):
            write_atomically(folder / file, partial(np.save, arr=array, allow_pickle=False))


def _distinct(table: store.DemonstrationTable, part: store.Partition) -> dict[str, int]:
    """Return the positions of the rows to fit on by their ``copy_text``, the first of each that are copies."""
    positions = rows_to_fit(part.count).tolist()
    by_text: dict[str, int] = {}
    for position, row in zip(positions, table.rows(part.task.name, positions), strict=True):
        by_text.setdefault(copy_text(part.task, row), position)
    return by_text
