"""What an index is built from."""

from dataclasses import dataclass
from pathlib import Path

from udr.errors import ConfigError
from udr.models import DEFAULT_ENCODER
from udr.store import DTYPES, Dtype
from udr_index.build.index_types import AUTO


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
        device: where the encoder runs, and where indexes are trained; None takes the best there is for the encoder.
        dtype: what vectors are kept as.
        kind: how partitions are searched; see ``udr_index.kinds.resolve``.
        flat_below: partitions of fewer demonstrations are flat; see there.
        tokenizer: whose tokens are counted and kept beside the rows: a name for ``udr.tokenizer.load_tokenizer``; None
            takes the encoder's own, where its folder holds one, and else counts none.
        bm25: whether to build a BM25 index of the inputs beside the vectors.
        threads: that add vectors to a graph (HNSW); more than one is faster, and its bytes differ each time.
        reuse: an index whose vectors of unchanged texts are taken over; None encodes all.
        batch_size: texts given to the encoder at once.
        shard_rows: rows that are encoded between two writes.

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
    dtype: Dtype = "float32"
    kind: str = AUTO
    flat_below: int | None = None
    tokenizer: str | None = None
    bm25: bool = False
    threads: int = 1
    reuse: Path | None = None
    batch_size: int = 256
    shard_rows: int = 4096

    def __post_init__(self) -> None:
        if self.names is not None and not self.names:
            raise ConfigError("no task is named; name one or more, or none of them at all to take all")
        if self.pool is not None and self.pool < 1:
            raise ConfigError(f"the pool must be at least 1 demonstration a task, found {self.pool}")
        if self.dtype not in DTYPES:
            raise ConfigError(f"unknown dtype {self.dtype!r}; there are {', '.join(DTYPES)}")
        if self.flat_below is not None and self.flat_below < 0:
            raise ConfigError(f"flat_below must be at least 0, found {self.flat_below}")
        for name in ("threads", "batch_size", "shard_rows"):
            if getattr(self, name) < 1:
                raise ConfigError(f"the {name.replace('_', ' ')} must be at least 1, found {getattr(self, name)}")
