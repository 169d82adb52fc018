"""The configuration of a build."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from udr.errors import ConfigError
from udr.models import DEFAULT_ENCODER, EXACT, Runtime
from udr.store import DTYPES, Dtype
from udr_index.build.export import check_engine

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Shard:
    """One of ``of`` parts of every pool: the rows whose ids have the hash ``number``, from 1.

    Raises:
        ConfigError: there is no such part.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise ConfigError(f"the shard must be from 1 to the number of shards, {self.of}; found {self.number}")

    def holds(self, id: str) -> bool:
        """Return whether the row with this id is in it; every row is in one."""
        return int.from_bytes(hashlib.sha256(id.encode()).digest()[:8]) % self.of == self.number - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildConfig:
    """What to build, and where.

    Attributes:
        tasks: the folder of the task collection.
        out: the index directory.
        model: the encoder: a hub name, a path, or ``package:NAME``.
        names: the tasks to index; None takes all.
        pool: the maximum number of demonstrations per task, sampled by ``seed``; None takes all.
        seed: the seed of that sample.
        shard: index only the rows of this shard; without label heads, which are fitted on whole pools.
        device: where to run the encoder and to train indexes; None takes the best available for the encoder.
        dtype: the type of the stored vectors.
        kind: how partitions are searched; see ``udr_index.build.resolve``.
        flat_below: partitions with fewer demonstrations are flat; see ``udr_index.build.resolve``.
        tokenizer: counts the tokens: a name for ``udr.models.load_tokenizer``; None takes the encoder's own, and counts
            nothing if that has none.
        bm25: whether to index the inputs' words, too, for BM25.
        label_head: whether classification tasks get a label head; None decides for each by cross-validation.
        head_fields: whether the head of a task with two fields may read them apart, if cross-validation shows that it
            gains by that; then the encoder reads two more texts for a query.
        export: whether the version carries the encoder's export, by which services encode without torch.
        engine: what the export is for: ``onnx``, or ``onnx-int8``, which adds a graph in 8 bits for queries.
        threads: the threads that add vectors to a graph (HNSW); with more than one, its bytes differ each time.
        reuse: an index whose vectors of unchanged texts are reused; None encodes all.
        batch_size: texts per call of the encoder or the tokenizer.
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
    shard: Shard | None = None
    device: str | None = None
    dtype: Dtype = "float32"
    kind: str = AUTO
    flat_below: int | None = None
    tokenizer: str | None = None
    bm25: bool = True
    label_head: bool | None = None
    head_fields: bool = True
    export: bool = True
    engine: Runtime = EXACT
    threads: int = 1
    reuse: Path | None = None
    batch_size: int = 256
    shard_rows: int = 4096

    def __post_init__(self) -> None:
        if self.names is not None and not self.names:
            raise ConfigError("the list of tasks is empty; name at least one, or omit it to index all")
        if self.pool is not None and self.pool < 1:
            raise ConfigError(f"the pool must be at least 1 demonstration per task, found {self.pool}")
        if self.shard is not None and self.pool is not None:
            raise ConfigError("a shard is a part of the whole pool, so omit the pool's size")
        if self.shard is not None and self.label_head:
            raise ConfigError("a label head is fitted on the whole pool, so shards have none; omit label_head")
        if self.dtype not in DTYPES:
            raise ConfigError(f"unknown dtype {self.dtype!r}; the dtypes are {', '.join(DTYPES)}")
        check_engine(self.engine)
        if self.engine != EXACT and not self.export:
            raise ConfigError(f"engine {self.engine!r} needs the export of the encoder; omit --no-export")
        if self.flat_below is not None and self.flat_below < 0:
            raise ConfigError(f"flat_below must be at least 0, found {self.flat_below}")
        for name in ("threads", "batch_size", "shard_rows"):
            if getattr(self, name) < 1:
                raise ConfigError(f"the {name.replace('_', ' ')} must be at least 1, found {getattr(self, name)}")
