"""Shards: indexes of parts of the pools, built independently, and the manifest that says where they are served."""

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from udr.client.shards import Placement, Placements
from udr.data import Kind, Task, TaskFamily, open_collection
from udr.errors import ConfigError
from udr.files import remote_url, write_atomically
from udr.models import Encoder, SentenceEncoder
from udr.store import DemonstrationTable, IndexVersion, Manifest, open_version
from udr_index.build import BuildConfig, Built, OnProgress, Shard, build

_LOG = logging.getLogger(__name__)

PLACEMENTS = "placements.json"
_CHECKED = 4096


def shard_folder(out: Path, shard: Shard) -> Path:
    """Return the index directory of a shard below ``out``."""
    return out / f"shard-{shard.number}-of-{shard.of}"


def build_shards(
    config: BuildConfig,
    number: int,
    only: int | None = None,
    *,
    encoder: Encoder | None = None,
    on_progress: OnProgress = lambda _: None,
) -> Iterator[Built]:
    """Build all shards of the tasks, or only one, each an index directory below ``config.out``; raises as ``build``.

    Each is the same on any machine and in any order. With all, the manifest of placements is written, too. Shards have
    no label heads; unless the configuration says so, the log names the tasks that might have had one.
    """
    if (url := remote_url(config.out)) is not None:
        raise ConfigError(
            f"{url} is on a remote store, where shards cannot be built; build them here, then upload each: udr index "
            "publish DIR CURRENT --to URL"
        )
    shards = [Shard(n, number) for n in (range(1, number + 1) if only is None else [only])]
    # Raises before the encoder is loaded.
    configs = [replace(config, shard=shard, out=shard_folder(config.out, shard)) for shard in shards]
    if config.label_head is None:
        tasks = [folder.task for folder in open_collection(config.tasks, config.names).tasks.values()]
        if names := [task.name for task in tasks if task.kind is Kind.CLASSIFICATION]:
            _LOG.info("no label head for %s: one is fitted on a whole pool, so shards have none", ", ".join(names))
    encoder = encoder or SentenceEncoder.load(config.model, device=config.device)
    for each in configs:
        yield build(each, encoder, on_progress)
    if only is None:
        place(config.out / PLACEMENTS, {each.out: () for each in configs})


def place(path: Path, shards: Mapping[Path, Sequence[str]]) -> Placements:
    """Write the manifest of placements of index directories, each with the services that serve it, in this order.

    Raises:
        ArtifactError: one is no index.
        ConfigError: they cannot be searched as one: by another encoder, with another definition of a task or family, or
            with a row in two of them; or two have the same name.
    """
    versions = {folder: open_version(folder) for folder in shards}
    first = next(iter(versions.values()), None)
    if first is None:
        raise ConfigError("name at least one index directory")
    named: dict[str, Path] = {}
    for folder in shards:
        if (other := named.setdefault(_name(folder), folder)) != folder:
            raise ConfigError(
                f"{other} and {folder}: answers name a shard by its folder, so these must differ; rename one"
            )
    tasks: dict[str, Task] = {}
    families: dict[str, TaskFamily] = {}
    placed: list[Placement] = []
    for folder, version in versions.items():
        manifest = version.manifest
        if _encoding(manifest) != _encoding(first.manifest):
            raise ConfigError(f"{folder}: built by another encoder or wording than {first.path}; build it again")
        for name, part in manifest.partitions.items():
            if tasks.setdefault(name, part.task) != part.task:
                raise ConfigError(f"{folder}: task {name!r} is defined otherwise than in another shard")
        for name, family in manifest.families.items():
            if families.setdefault(name, family) != family:
                raise ConfigError(f"{folder}: family {name!r} has another instruction than in another shard")
        sizes = {name: part.count for name, part in manifest.partitions.items()}
        with closing(version.demonstrations()) as table:
            row_bytes = {name: table.row_bytes(name) for name in sizes}
        placed.append(
            Placement(
                name=_name(folder),
                version=manifest.version,
                families=frozenset(manifest.families),
                sizes=sizes,
                urls=tuple(shards[folder]),
                row_bytes=row_bytes,
            )
        )
    _refuse_shared_rows(versions)
    placements = Placements(
        encoder=first.manifest.encoder,
        wording=first.manifest.wording,
        families=families,
        tasks=dict(sorted(tasks.items())),
        shards=tuple(placed),
    )
    write_atomically(path, placements.to_bytes())
    return placements


def _name(folder: Path) -> str:
    # That of ".", too.
    return folder.resolve().name


def _encoding(manifest: Manifest) -> tuple[str, int, str, str]:
    encoder = manifest.encoder
    return encoder.fingerprint, encoder.dimension, encoder.metric, manifest.wording


def _refuse_shared_rows(versions: Mapping[Path, IndexVersion]) -> None:
    """Raise a ``ConfigError`` if a row is in two shards: answers would show it twice."""
    tables = {folder: version.demonstrations() for folder, version in versions.items()}
    try:
        for one, other in itertools.combinations(versions, 2):
            for task in versions[one].manifest.partitions.keys() & versions[other].manifest.partitions.keys():
                for ids in _batches(tables[one], task):
                    if shared := tables[other].positions(task, ids):
                        id = next(iter(shared.values()))
                        raise ConfigError(
                            f"{one} and {other}: both have the row {id!r} of task {task!r}; build them with --shards, "
                            "or of different tasks"
                        )
    finally:
        for table in tables.values():
            table.close()


def _batches(table: DemonstrationTable, task: str) -> Iterator[Sequence[str]]:
    ids = table.all_ids(task)
    while batch := list(itertools.islice(ids, _CHECKED)):
        yield batch
