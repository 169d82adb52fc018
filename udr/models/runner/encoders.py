"""An encoder of which workers hold copies, which encode many texts at a time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from udr.errors import PartialError
from udr.models.encoder import SentenceEncoder
from udr.models.runner.options import RunnerOptions
from udr.models.runner.ray_workers import ray_workers
from udr.models.runner.scheduler import Scheduler
from udr.models.runner.shards import Shard, failed, shard_key
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
            return (encoder.encode_demonstrations if role == "demonstration" else encoder.encode_queries)(texts)

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
    """Open workers that hold an encoder, if the options say so; errors as ``ray_workers``.

    Args:
        encoder: the encoder in this process, which single texts need.
        options: where it runs.
        device: what workers compute on: ``cpu`` or ``cuda``.
    """
    if options.is_local:
        yield encoder
        return
    with ray_workers("encoder", LoadEncoder(encoder.name, device), _identity(encoder), options, device) as scheduler:
        yield ScatteredEncoder(encoder, scheduler)


def _identity(encoder: SentenceEncoder) -> str:
    return f"encoder {encoder.fingerprint}"
