"""The manifest of placements: which services hold which shard of the pools."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from udr.data import Task, TaskFamily, parse_task
from udr.errors import ArtifactError, DataError, reason
from udr.files import canonical_json, check_format, read_bytes
from udr.store import EncoderStamp, Manifest, Partition, check_manifest, definition
from udr.types import Json

_FORMAT = 1
_LARGEST = 64 * 1024 * 1024
_REMEDY = "udr index place"


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """A shard: an index of some rows of some tasks, and the services that hold it.

    Attributes:
        name: what answers call it if it is missing.
        version: its index version. An answer of another one is merged only if that has the same definition.
        families: the families in it.
        sizes: how many rows of each task it has.
        urls: the services that serve it, each the whole shard.
        row_bytes: about how many characters a row of each task has, as JSON; a task may be absent.
    """

    name: str
    version: str
    families: frozenset[str]
    sizes: Mapping[str, int]
    urls: tuple[str, ...] = ()
    row_bytes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Placements:
    """All shards, and what they have in common.

    Attributes:
        encoder: the encoder that built all of them.
        wording: the fingerprint of how it reads rows.
        families: by name.
        tasks: by name.
        shards: in the order of their names.
    """

    encoder: EncoderStamp
    wording: str
    families: Mapping[str, TaskFamily]
    tasks: Mapping[str, Task]
    shards: tuple[Placement, ...]

    @property
    def version(self) -> str:
        """The name of all versions together, 16 hex digits."""
        return hashlib.sha256("\n".join(sorted(shard.version for shard in self.shards)).encode()).hexdigest()[:16]

    @property
    def sizes(self) -> Mapping[str, int]:
        """How many rows each task has in all shards."""
        return sum((Counter(shard.sizes) for shard in self.shards), Counter[str]())

    @property
    def manifest(self) -> Manifest:
        """The manifest of one index of all rows: flat, without BM25 and label heads."""
        sizes = self.sizes
        return Manifest(
            version=self.version,
            encoder=self.encoder,
            tokenizer=None,
            wording=self.wording,
            dtype="float32",
            families=self.families,
            partitions={name: Partition(task=task, count=sizes[name]) for name, task in self.tasks.items()},
            files={},
        )

    def definition(self, shard: Placement) -> str:
        """Return the definition of a shard, which a version with other rows has, too; see ``udr.store.definition``."""
        families = {name: self.families[name] for name in shard.families}
        return definition(self.encoder, self.wording, families, {name: self.tasks[name] for name in shard.sizes})

    def to_bytes(self) -> bytes:
        """Return the file's content; equal placements give equal bytes."""
        shards: list[Json] = [
            {
                "name": shard.name,
                "version": shard.version,
                "families": sorted(shard.families),
                "sizes": dict(shard.sizes),
                "urls": list(shard.urls),
                "row_bytes": dict(shard.row_bytes),
            }
            for shard in self.shards
        ]
        keys: dict[str, Json] = {
            "format": _FORMAT,
            "encoder": asdict(self.encoder),
            "wording": self.wording,
            "families": {family.name: family.instruction for family in self.families.values()},
            "tasks": {name: task.to_json() for name, task in self.tasks.items()},
            "shards": shards,
        }
        return canonical_json(keys, indent=1) + b"\n"


def read_placements(path: Path) -> Placements:
    """Return the placements in a file, whose URLs may have been written by hand.

    Raises:
        ArtifactError: it cannot be read, is not such a file, has no shard, or one of them has no URL.
    """
    try:
        keys: dict[str, Any] = json.loads(read_bytes(path, _LARGEST))
        check_format(keys.get("format"), _FORMAT, str(path), _REMEDY)
        placements = Placements(
            encoder=EncoderStamp(**keys["encoder"]),
            wording=keys["wording"],
            families={name: TaskFamily(name, str(text)) for name, text in keys["families"].items()},
            tasks={name: parse_task(task) for name, task in keys["tasks"].items()},
            shards=tuple(map(_placement, keys["shards"])),
        )
        _check(placements)
    except ArtifactError:
        raise
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError, DataError) as error:
        problem = f"{error} is missing" if isinstance(error, KeyError) else reason(error)
        raise ArtifactError(f"{path}: is no manifest of placements: {problem[:400]}; run: {_REMEDY}") from error
    if lost := [shard.name for shard in placements.shards if not shard.urls]:
        raise ArtifactError(f"{path}: no service is named for shard {', '.join(lost)}; write its address into urls")
    return placements


def _placement(keys: Mapping[str, Any]) -> Placement:
    urls: Sequence[str] = keys["urls"]
    if isinstance(urls, str) or not all(isinstance(url, str) for url in urls):
        raise ValueError("urls must be a list of addresses")
    return Placement(
        name=str(keys["name"]),
        version=str(keys["version"]),
        families=frozenset(keys["families"]),
        sizes={str(name): int(size) for name, size in keys["sizes"].items()},
        urls=tuple(urls),
        row_bytes={str(name): int(size) for name, size in keys.get("row_bytes", {}).items()},
    )


def _check(placements: Placements) -> None:
    if not placements.shards:
        raise ValueError("it has no shard")
    check_manifest(placements.manifest)
    names = Counter(shard.name for shard in placements.shards)
    if twice := [name for name, count in names.items() if count > 1]:
        raise ValueError(f"two shards have the name {twice[0]!r}")
    held = set(placements.sizes)
    if held != set(placements.tasks):
        raise ValueError("the tasks of the shards are not those that it describes")
    families = {task.family for task in placements.tasks.values()}.union(*(s.families for s in placements.shards))
    if not families <= set(placements.families):
        raise ValueError("a shard has a family that it does not describe")
