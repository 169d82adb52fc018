"""Encoding a task's demonstrations, shard by shard: a kill costs one shard of work, and memory holds one."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from udr.data import Task, encoder_demonstration
from udr.errors import ModelError
from udr.files import write_atomically
from udr.models import Encoder
from udr.search import Vectors
from udr.store import DemonstrationTable, Dtype, vectors_path
from udr_index.build.reuse import PreviousVersion

Advance = Callable[[int, int], None]
"""Is told how many more rows have vectors, and how many texts were encoded for them."""


@dataclass(frozen=True, kw_only=True)
class PoolEncoding:
    """The vectors of one task in the making: ``partitions/<task>/shards/*.npy``, joined when all are there.

    A shard's name says which rows it has, so that a build that goes on with other shards takes none for its own.

    Attributes:
        staging: the version's folder.
        table: its rows.
        task: the task.
        count: how many rows it has.
        encoder: makes the vectors.
        dtype: what they are kept as.
        batch_size: texts given to the encoder at once.
        shard_rows: rows a shard.
        previous: vectors that are taken over; None encodes everything.
    """

    staging: Path
    table: DemonstrationTable
    task: Task
    count: int
    encoder: Encoder
    dtype: Dtype
    batch_size: int
    shard_rows: int
    previous: PreviousVersion | None = None

    def finish(self, advance: Advance) -> None:
        """Make what is missing of the task's ``vectors.npy``.

        Raises:
            ModelError: the encoder gave vectors of another shape, or numbers that are none.
        """
        path = self.staging / vectors_path(self.task.name)
        if path.is_file():
            advance(self.count, 0)
        else:
            self._shards.mkdir(parents=True, exist_ok=True)
            for start in range(0, self.count, self.shard_rows):
                self._finish_shard(start, advance)
            write_atomically(path, self._join)
        if self._shards.is_dir():
            for shard in self._shards.iterdir():
                shard.unlink()
            self._shards.rmdir()

    @property
    def _shards(self) -> Path:
        return (self.staging / vectors_path(self.task.name)).with_name("shards")

    def _stop(self, start: int) -> int:
        return min(start + self.shard_rows, self.count)

    def _shard(self, start: int) -> Path:
        """Return the file of the shard that begins at a position."""
        return self._shards / f"{start:09}-{self._stop(start):09}.npy"

    def _finish_shard(self, start: int, advance: Advance) -> None:
        path, stop = self._shard(start), self._stop(start)
        if self._is_there(path, stop - start):
            advance(stop - start, 0)
            return
        keys = self.table.text_keys(self.task.name, start, stop)
        # Equal texts have one vector, wherever it comes from: so they tie.
        known = self._known(set(keys), start)
        new = {key: place for place, key in enumerate(keys) if key not in known}
        encoded = self._encode(list(new), [start + place for place in new.values()], advance)
        vectors = np.empty((len(keys), self.encoder.dimension), dtype=self.dtype)
        # What float16 cannot hold becomes infinite, which is refused below.
        with np.errstate(over="ignore"):
            for place, key in enumerate(keys):
                vectors[place] = known[key] if key in known else encoded[key]
        if not np.isfinite(vectors).all():
            raise ModelError(
                f"encoder {self.encoder.name!r} gives numbers that {self.dtype} cannot hold; keep them as float32"
            )
        write_atomically(path, lambda stream: np.save(stream, vectors, allow_pickle=False))
        if len(new) < len(keys):
            advance(len(keys) - len(new), 0)

    def _is_there(self, path: Path, rows: int) -> bool:
        """Whether a shard was finished before, and is what its name says."""
        try:
            shard = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return False
        return bool(shard.shape == (rows, self.encoder.dimension) and shard.dtype == self.dtype)

    def _known(self, keys: Iterable[bytes], start: int) -> dict[bytes, NDArray[np.floating]]:
        """Return the vectors that texts have already, in earlier shards or an earlier version."""
        known, places = dict[bytes, NDArray[np.floating]](), defaultdict[int, dict[bytes, int]](dict)
        for key in keys:
            first = self.table.first(key, self.task.name)
            if first is not None and first[1] < start:
                place = first[1] % self.shard_rows
                places[first[1] - place][key] = place
            elif self.previous is not None and (vector := self.previous.vector(key)) is not None:
                known[key] = vector
        for begin, wanted in places.items():
            # Copied, so that one file is open at a time: they may be thousands.
            shard: NDArray[np.floating] = np.load(self._shard(begin), mmap_mode="r", allow_pickle=False)
            known |= zip(wanted, shard[list(wanted.values())], strict=True)
        return known

    def _encode(
        self, keys: Sequence[bytes], positions: Sequence[int], advance: Advance
    ) -> dict[bytes, NDArray[np.floating]]:
        """Return the vectors of the rows at these positions, whose texts all differ."""
        rows = self.table.rows(self.task.name, positions)
        texts = [encoder_demonstration(self.task, row) for row in rows]
        vectors = encode_by_length(
            self.encoder, texts, self.task.name, self.batch_size, lambda encoded: advance(encoded, encoded)
        )
        return dict(zip(keys, vectors, strict=True))

    def _join(self, stream: BinaryIO) -> None:
        header = np.lib.format.header_data_from_array_1_0(np.empty((0, self.encoder.dimension), dtype=self.dtype))
        np.lib.format.write_array_header_1_0(stream, {**header, "shape": (self.count, self.encoder.dimension)})
        for start in range(0, self.count, self.shard_rows):
            stream.write(np.load(self._shard(start), allow_pickle=False).tobytes())


def encode_by_length(
    encoder: Encoder,
    texts: Sequence[str],
    task: str,
    batch_size: int,
    advance: Callable[[int], object] = lambda _: None,
) -> Vectors:
    """Return the vectors of texts, float32 [len(texts), dimension]; those of like length are encoded together.

    So little is padded. ``advance`` is told after every batch how many more there are. See ``checked`` for the errors.
    """
    vectors = np.empty((len(texts), encoder.dimension), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda place: (len(texts[place]), texts[place]))
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        vectors[places] = checked(encoder, [texts[place] for place in places], task)
        advance(len(places))
    return vectors


def checked(encoder: Encoder, texts: Sequence[str], task: str) -> Vectors:
    """Return the vectors of demonstration texts, float32 [len(texts), dimension].

    Raises:
        ModelError: the encoder gave vectors of another shape, or numbers that are none.
    """
    vectors = encoder.encode_demonstrations(texts)
    if vectors.shape != (len(texts), encoder.dimension) or not np.isfinite(vectors).all():
        raise ModelError(
            f"encoder {encoder.name!r} gave {list(vectors.shape)} for {len(texts)} texts of task {task!r}, or numbers "
            f"that are not finite; [{len(texts)}, {encoder.dimension}] was expected"
        )
    return vectors
