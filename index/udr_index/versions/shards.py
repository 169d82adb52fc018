"""Shards: indexes of parts of the pools, built independently, and the manifest that says where they are served."""

import itertools
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from udr.client.shards import Placement, Placements
from udr.data import Kind, Task, TaskFamily, open_collection
from udr.errors import ConfigError
from udr.files import remote_url, write_atomically
from udr.models import Encoder, SentenceEncoder
from udr.store import DEMONSTRATIONS, DemonstrationTable, IndexVersion, Manifest, RemoteIndex, open_version
from udr_index.build import BuildConfig, Built, OnProgress, Shard, build

_LOG = logging.getLogger(__name__)

PLACEMENTS = "placements.json"
_CHECKED = 4096
_NAME = re.compile(r"shard-([1-9]\d*)-of-([1-9]\d*)")


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
    """Write the manifest of placements of indexes, each with the services that serve it, in this order.

    Args:
        path: the file.
        shards: the index directories, or their URLs on a store, where only their manifests are read.

    Raises:
        ArtifactError: one is no index.
        ConfigError: they cannot be searched as one: by another encoder, with another definition of a task or family, or
            with a row in two of them; or two have the same name.
    """
    remotes = {folder: RemoteIndex.at(folder) for folder in shards}
    versions = {folder: open_version(folder) for folder, remote in remotes.items() if remote is None}
    manifests = {
        folder: versions[folder].manifest if remote is None else remote.manifest() for folder, remote in remotes.items()
    }
    if not manifests:
        raise ConfigError("name at least one index directory")
    first, common = next(iter(manifests.items()))
    named: dict[str, Path] = {}
    for folder in shards:
        if (other := named.setdefault(_name(folder), folder)) != folder:
            raise ConfigError(
                f"{other} and {folder}: answers name a shard by its folder, so these must differ; rename one"
            )
    tasks: dict[str, Task] = {}
    families: dict[str, TaskFamily] = {}
    placed: list[Placement] = []
    for folder, manifest in manifests.items():
        if _encoding(manifest) != _encoding(common):
            raise ConfigError(f"{folder}: built by another encoder or wording than {first}; build it again")
        for name, part in manifest.partitions.items():
            if tasks.setdefault(name, part.task) != part.task:
                raise ConfigError(f"{folder}: task {name!r} is defined otherwise than in another shard")
        for name, family in manifest.families.items():
            if families.setdefault(name, family) != family:
                raise ConfigError(f"{folder}: family {name!r} has another instruction than in another shard")
        placed.append(
            Placement(
                name=_name(folder),
                version=manifest.version,
                families=frozenset(manifest.families),
                sizes={name: part.count for name, part in manifest.partitions.items()},
                urls=tuple(shards[folder]),
                row_bytes=_row_bytes(manifest, versions.get(folder)),
            )
        )
    _refuse_shared_rows(manifests, versions)
    placements = Placements(
        encoder=common.encoder,
        wording=common.wording,
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


def _row_bytes(manifest: Manifest, version: IndexVersion | None) -> Mapping[str, int]:
    """Return about how many characters a row of each task has; on a store, from the size of the file of all rows."""
    if version is None:
        rows = max(1, sum(part.count for part in manifest.partitions.values()))
        return dict.fromkeys(manifest.partitions, manifest.files[DEMONSTRATIONS].size // rows)
    with closing(version.demonstrations()) as table:
        return {name: table.row_bytes(name) for name in manifest.partitions}


def _refuse_shared_rows(manifests: Mapping[Path, Manifest], versions: Mapping[Path, IndexVersion]) -> None:
    """Raise a ``ConfigError`` if a row is in two shards: answers would show it twice."""
    with ExitStack() as stack:
        tables = {folder: stack.enter_context(closing(each.demonstrations())) for folder, each in versions.items()}
        cut = {folder: _shard(folder, manifests[folder], tables.get(folder)) for folder in manifests}
        for one, other in itertools.combinations(manifests, 2):
            if manifests[one].version == manifests[other].version:
                raise ConfigError(f"{one} and {other}: both are version {manifests[one].version}; name each once")
            shard, another = cut[one], cut[other]
            if shard is not None and another is not None and shard.of == another.of and shard != another:
                continue
            for task in manifests[one].partitions.keys() & manifests[other].partitions.keys():
                if one not in tables or other not in tables:
                    raise ConfigError(
                        f"{one} and {other}: both have rows of task {task!r}, and rows on a store are not compared; "
                        "name their directories on this machine, or shards as udr index build --shards names them"
                    )
                for ids in _batches(tables[one], task):
                    if shared := tables[other].positions(task, ids):
                        id = next(iter(shared.values()))
                        raise ConfigError(
                            f"{one} and {other}: both have the row {id!r} of task {task!r}; build them with --shards, "
                            "or of different tasks"
                        )


def _shard(folder: Path, manifest: Manifest, table: DemonstrationTable | None) -> Shard | None:
    """Return which shard of ``udr index build --shards`` an index is, by its name, and by rows that are here."""
    match = _NAME.fullmatch(_name(folder))
    if match is None or int(match[1]) > int(match[2]):
        return None
    shard = Shard(int(match[1]), int(match[2]))
    first = [] if table is None else [next(_batches(table, task), ()) for task in manifest.partitions]
    return shard if all(map(shard.holds, itertools.chain.from_iterable(first))) else None


def _batches(table: DemonstrationTable, task: str) -> Iterator[Sequence[str]]:
    ids = table.all_ids(task)
    while batch := list(itertools.islice(ids, _CHECKED)):
        yield batch
