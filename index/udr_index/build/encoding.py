"""Encoding a task's demonstrations shard by shard, and counting their tokens. Memory holds one shard."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from udr.data import demonstration_text
from udr.errors import ModelError, PartialError
from udr.files import write_atomically
from udr.models import Encoder, LoadedTokenizer, encode_by_length
from udr.store import DemonstrationTable, Partition, vectors_path
from udr_index.build.config import BuildConfig
from udr_index.build.ingest import IngestedRows
from udr_index.build.reuse import PreviousVersion

Advance = Callable[[int, int], None]
"""Called with the number of rows that are finished, and of those that were not reused."""


@dataclass(frozen=True)
class TaskEncoding:
    """Makes the vectors of one task: ``partitions/<task>/shards/*.npy``, joined when all are complete.

    A shard's name holds its rows, so that a build with other shard sizes does not reuse it; a kill loses one shard.
    """

    staging: Path
    table: DemonstrationTable
    rows: IngestedRows
    part: Partition
    encoder: Encoder
    config: BuildConfig
    previous: PreviousVersion | None

    def finish(self, advance: Advance) -> int:
        """Complete the task's ``vectors.npy``, and return how many texts were encoded.

        Raises:
            PartialError: workers could not encode some texts; all shards without them are complete.
        """
        path, encoded = self.staging / vectors_path(self._task), 0
        if path.is_file():
            advance(self.part.count, 0)
        else:
            self._shards.mkdir(parents=True, exist_ok=True)
            failures = list[PartialError]()
            for start in self._starts:
                try:
                    encoded += self._finish_shard(start, advance)
                except PartialError as error:
                    failures.append(error)
            if failures:
                raise failures[0]
            write_atomically(path, self._join)
        if self._shards.is_dir():
            for shard in self._shards.iterdir():
                shard.unlink()
            self._shards.rmdir()
        return encoded

    @property
    def _task(self) -> str:
        return self.part.task.name

    @property
    def _shards(self) -> Path:
        return (self.staging / vectors_path(self._task)).with_name("shards")

    @property
    def _starts(self) -> range:
        return range(0, self.part.count, self.config.shard_rows)

    def _stop(self, start: int) -> int:
        return min(start + self.config.shard_rows, self.part.count)

    def _shard(self, start: int) -> Path:
        return self._shards / f"{start:09}-{self._stop(start):09}.npy"

    def _finish_shard(self, start: int, advance: Advance) -> int:
        path, stop = self._shard(start), self._stop(start)
        if self._is_complete(path, stop - start):
            advance(stop - start, 0)
            return 0
        keys = self.table.text_keys(self._task, start, stop)
        # Equal texts share one vector, whichever build made it, so that they tie.
        known = self._known(set(keys), start)
        new, texts = self._new(keys, known, start)
        encoded = encode_by_length(
            self.encoder, texts, self._task, self.config.batch_size, lambda count: advance(count, count), start=start
        )
        known |= zip(new, encoded, strict=True)
        vectors = np.empty((len(keys), self.encoder.dimension), dtype=self.config.dtype)
        # Numbers that float16 cannot hold become infinite, which is checked below.
        with np.errstate(over="ignore"):
            for offset, key in enumerate(keys):
                vectors[offset] = known[key]
        if not np.isfinite(vectors).all():
            raise ModelError(
                f"encoder {self.encoder.name!r} returned numbers that {self.config.dtype} cannot hold; use float32"
            )
        write_atomically(path, lambda stream: np.save(stream, vectors, allow_pickle=False))
        if len(new) < len(keys):
            advance(len(keys) - len(new), 0)
        return len(new)

    def token_counts(self, tokenizer: LoadedTokenizer, advance: Advance) -> Iterator[int]:
        """Yield the number of tokens of each row, as prompts show it."""
        task = self.part.task
        if task.encoder_input is not None:
            # The encoder reads another text, so its keys do not identify what a prompt shows.
            for start in range(0, self.part.count, self.config.batch_size):
                rows = self.table.rows(task.name, range(start, min(start + self.config.batch_size, self.part.count)))
                counts = tokenizer.counts_inside([demonstration_text(task, row) for row in rows])
                advance(len(counts), len(counts))
                yield from counts
            return
        for start in range(0, self.part.count, self.config.batch_size):
            keys, known = self.table.text_keys(self._task, start, start + self.config.batch_size), dict[bytes, int]()
            if self.previous is not None:
                known |= self.previous.token_counts(self.part.task, keys, tokenizer.fingerprint)
            new, texts = self._new(keys, known, start)
            # A prompt shows a demonstration without the instruction that the encoder reads before it.
            shown = [text.removeprefix(f"{self.part.task.instruction}\n") for text in texts]
            known |= zip(new, tokenizer.counts_inside(shown), strict=True)
            advance(len(keys), len(new))
            yield from (known[key] for key in keys)

    def _new(
        self, keys: Sequence[bytes], known: Collection[bytes], start: int
    ) -> tuple[Sequence[bytes], Sequence[str]]:
        """Return the unknown keys from position ``start`` on, each once, and their texts."""
        new = {key: start + offset for offset, key in enumerate(keys) if key not in known}
        return list(new), self.rows.texts(self._task, self.table.ids(self._task, list(new.values())))

    def _is_complete(self, path: Path, rows: int) -> bool:
        try:
            shard = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return False
        return bool(shard.shape == (rows, self.encoder.dimension) and shard.dtype == self.config.dtype)

    def _known(self, keys: Iterable[bytes], start: int) -> dict[bytes, NDArray[np.floating]]:
        """Return the vectors of texts that earlier shards or the previous version hold."""
        known, offsets = dict[bytes, NDArray[np.floating]](), defaultdict[int, dict[bytes, int]](dict)
        for key in keys:
            first = self.table.first(key, self._task)
            if first is not None and first[1] < start:
                offset = first[1] % self.config.shard_rows
                offsets[first[1] - offset][key] = offset
            elif self.previous is not None and (vector := self.previous.vector(key)) is not None:
                known[key] = vector
        if waits := [shard_start for shard_start in offsets if not self._shard(shard_start).is_file()]:
            raise PartialError(
                f"task {self._task}: the rows from {start} on repeat rows from {waits[0]} on, which failed"
            )
        for shard_start, wanted in offsets.items():
            # Copied, so that one file is open at a time: there may be thousands.
            shard: NDArray[np.floating] = np.load(self._shard(shard_start), mmap_mode="r", allow_pickle=False)
            known |= zip(wanted, shard[list(wanted.values())], strict=True)
        return known

    def _join(self, stream: BinaryIO) -> None:
        header = np.lib.format.header_data_from_array_1_0(np.empty(0, dtype=self.config.dtype))
        shape = (self.part.count, self.encoder.dimension)
        np.lib.format.write_array_header_1_0(stream, {**header, "shape": shape})
        for start in self._starts:
            stream.write(np.load(self._shard(start), allow_pickle=False).tobytes())
