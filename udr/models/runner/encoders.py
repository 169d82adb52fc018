"""Encoding many texts, in batches that are the same in this process as on workers that hold copies of the encoder."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from udr.errors import ModelError, PartialError
from udr.models.encoder import Encoder, SentenceEncoder
from udr.models.hub import absolute
from udr.models.runner.options import RunnerOptions
from udr.models.runner.scheduler import Scheduler
from udr.models.runner.shards import Shard, failed, shard_key
from udr.models.runner.workers import open_workers
from udr.search import Vectors
from udr.types import Role

Batch = tuple[Role, tuple[str, ...]]


@dataclass(frozen=True)
class LoadEncoder:
    """Loads an encoder by name on a worker."""

    name: str
    device: str

    def __call__(self) -> tuple[str, Callable[[Batch], Vectors]]:
        """Return the identity of the encoder that was loaded, and what encodes a batch with it."""
        encoder = SentenceEncoder.load(self.name, self.device)

        def encode(batch: Batch) -> Vectors:
            role, texts = batch
            return _encode(encoder, texts, role)

        return _identity(encoder), encode


class ScatteredEncoder(SentenceEncoder):
    """An encoder in this process whose workers hold the same one.

    Args:
        encoder: the one in this process.
        scheduler: of the workers.
    """

    def __init__(self, encoder: SentenceEncoder, scheduler: Scheduler[Batch, Vectors]) -> None:
        super().__init__(encoder.name, encoder.path, encoder.model, encoder.batch_size, encoder.dtype)
        self._scheduler = scheduler

    @property
    def note(self) -> str:
        """The workers' texts per second, in words."""
        return self._scheduler.note

    def encode_batches(
        self, batches: Sequence[Sequence[str]], names: Sequence[Sequence[str]], role: Role
    ) -> Iterator[tuple[int, Vectors]]:
        """Yield the number of each batch and its vectors, as workers encode them.

        Args:
            batches: the texts of each.
            names: what to call them in a report of those that fail.
            role: of the texts.

        Raises:
            PartialError: in the end, if some failed on every worker that tried them.
        """
        before = len(self._scheduler.failures)
        numbers: dict[str, int] = {}

        def shards() -> Iterator[Shard[Batch]]:
            for number, (texts, named) in enumerate(zip(batches, names, strict=True)):
                key = shard_key([self.fingerprint, role, str(number), *texts])
                numbers[key] = number
                yield Shard(key, (role, tuple(texts)), tuple(named))

        for done in self._scheduler.run(shards()):
            yield numbers.pop(done.shard.key), done.result
        if failures := self._scheduler.failures[before:]:
            raise failed(failures, "texts")

    def failure(self) -> PartialError | None:
        """Return the error of all that failed so far, or None."""
        return failed(self._scheduler.failures, "texts") if self._scheduler.failures else None


@contextmanager
def scattered(encoder: SentenceEncoder, options: RunnerOptions, device: str) -> Iterator[SentenceEncoder]:
    """Open workers that hold an encoder, if the options say so; errors as ``open_workers``.

    Args:
        encoder: the encoder in this process, which single texts need.
        options: where it runs.
        device: what workers of a cluster compute on, ``cpu`` or ``cuda``; processes compute on what this one does.
    """
    if options.is_local:
        yield encoder
        return
    if options.runner == "local":
        device = encoder.model.device.type
    load = LoadEncoder(absolute(encoder.name), device)
    with open_workers("encoder", load, _identity(encoder), options, device) as scheduler:
        yield ScatteredEncoder(encoder, scheduler)


def _identity(encoder: SentenceEncoder) -> str:
    return f"encoder {encoder.fingerprint}"


def encode_by_length(
    encoder: Encoder,
    texts: Sequence[str],
    task: str,
    batch_size: int = 256,
    advance: Callable[[int], object] = lambda _: None,
    role: Role = "demonstration",
    start: int = 0,
) -> Vectors:
    """Return the vectors of texts in a role, float32 [len(texts), dimension].

    Texts of similar length are encoded together, which saves padding; by workers, if the encoder has them. ``advance``
    is called with the size of every batch. ``start`` is the position of the first text in the task, for reports.

    Raises:
        ModelError: as ``encode_checked``.
        PartialError: the encoder's workers could not encode some texts.
    """
    vectors = np.empty((len(texts), encoder.dimension), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda position: (len(texts[position]), texts[position]))
    batches = [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
    chosen = ([texts[position] for position in batch] for batch in batches)
    if isinstance(encoder, ScatteredEncoder):
        names = [[f"{task} after row {start}: {texts[position][:40]!r}" for position in batch] for batch in batches]
        encoded = encoder.encode_batches(list(chosen), names, role)
    else:
        encoded = ((number, _encode(encoder, batch, role)) for number, batch in enumerate(chosen))
    for number, found in encoded:
        vectors[batches[number]] = _checked(encoder, found, len(batches[number]), task)
        advance(len(batches[number]))
    return vectors


def encode_checked(encoder: Encoder, texts: Sequence[str], task: str, role: Role = "demonstration") -> Vectors:
    """Return the vectors of texts in a role, float32 [len(texts), dimension].

    Raises:
        ModelError: the encoder returned vectors of the wrong shape, or numbers that are not finite.
    """
    return _checked(encoder, _encode(encoder, texts, role), len(texts), task)


def _encode(encoder: Encoder, texts: Sequence[str], role: Role) -> Vectors:
    return (encoder.encode_demonstrations if role == "demonstration" else encoder.encode_queries)(texts)


def _checked(encoder: Encoder, vectors: Vectors, count: int, task: str) -> Vectors:
    expected = (count, encoder.dimension)
    if vectors.shape != expected or not np.isfinite(vectors).all():
        raise ModelError(
            f"encoder {encoder.name!r} returned vectors of shape {list(vectors.shape)} for {count} texts of task "
            f"{task!r}, or numbers that are not finite; expected finite numbers of shape {list(expected)}"
        )
    return vectors
