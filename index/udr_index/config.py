"""What an index is built from."""

from dataclasses import dataclass
from pathlib import Path

from udr.errors import ConfigError
from udr.models import DEFAULT_ENCODER


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildConfig:
    """What to build, and where.

    Attributes:
        tasks: the folder of the task collection.
        out: the index directory.
        model: the encoder: a hub name, a path, or ``package:NAME``.
        names: the tasks to take; None takes all.
        pool: at most so many demonstrations of each task, chosen by seed; None takes all.
        seed: of that choice.
        device: where the encoder runs; None takes the best there is.
        batch_size: texts given to the encoder at once.

    Raises:
        ConfigError: a number is out of range.
    """

    tasks: Path
    out: Path
    model: str = DEFAULT_ENCODER
    names: tuple[str, ...] | None = None
    pool: int | None = None
    seed: int = 0
    device: str | None = None
    batch_size: int = 256

    def __post_init__(self) -> None:
        if self.names is not None and not self.names:
            raise ConfigError("no task is named; name one or more, or none of them at all to take all")
        if self.pool is not None and self.pool < 1:
            raise ConfigError(f"the pool must be at least 1 demonstration a task, found {self.pool}")
        if self.batch_size < 1:
            raise ConfigError(f"the batch size must be at least 1, found {self.batch_size}")
