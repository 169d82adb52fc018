"""Building an index: from a collection to a complete, verified and published version.

A build that is killed leaves the published version as it was, and the next build of the same vectors resumes.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from udr import store
from udr.data import ENCODER_WORDING, TaskFamily, open_collection
from udr.errors import ConfigError
from udr.models import Encoder, LoadedTokenizer, LongTexts, SentenceEncoder, hub, load_tokenizer
from udr.search import RULE
from udr_index.build.config import BuildConfig
from udr_index.build.export import try_export
from udr_index.build.faiss_index import check_kind, resolve, rows_to_train
from udr_index.build.identity import identify, refuse_names
from udr_index.build.ingest import TaskRows, ingest
from udr_index.build.progress import OnProgress, Stage
from udr_index.build.reuse import find_previous, located, open_previous, write_measured
from udr_index.build.staging import StagedVersion
from udr_index.lock import lock_index

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """The published version, its folder, the size of each task, and how many texts this build had to encode."""

    version: str
    path: Path
    sizes: Mapping[str, int]
    encoded: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """What a version is made of.

    Attributes:
        rows: the rows of each task.
        families: the families of these tasks, by name.
        encoder: encodes them.
        model: the folder of the encoder, if the version gets a copy of it.
        exported: the folder of its export, if the version gets a copy of that.
        tokenizer: counts their tokens.
        tokenizer_name: the tokenizer's name, for the manifest.
        kinds: how tasks are searched, where the configuration does not say.
        measured: the version whose measurements are kept, see ``write_measured``; by default the one that is reused.
    """

    rows: Sequence[TaskRows]
    families: Mapping[str, TaskFamily]
    encoder: Encoder
    model: Path | None
    exported: Callable[[], Path | None]
    tokenizer: LoadedTokenizer | None
    tokenizer_name: str
    kinds: Callable[[Mapping[str, int]], Mapping[str, str]] = lambda sizes: {}
    measured: store.IndexVersion | None = None


def build(config: BuildConfig, encoder: Encoder | None = None, on_progress: OnProgress = lambda _: None) -> Built:
    """Build the index that ``config`` describes, or resume its build, and publish it.

    One on a remote store is built in its copy on this machine, uploaded, and published there.

    Args:
        config: what to build, and where.
        encoder: a loaded encoder, in place of ``config.model``.
        on_progress: called as the work proceeds.

    Raises:
        DataError: a task or a row is invalid.
        UnknownTaskError: a named task is not in the collection.
        ConfigError: faiss does not know the kind of partition; raised before anything is read or encoded.
        ModelError: the encoder or the tokenizer cannot be loaded, or the encoder returns unusable vectors.
        ArtifactError: another build is running in the same folder.
        VerificationError: the version exists and is damaged, or the one to reuse is.
    """
    collection = open_collection(config.tasks, config.names)
    if encoder is None:
        encoder = SentenceEncoder.load(config.model, device=config.device)
    model = hub.locate(encoder.name) if hub.is_local(encoder.name) else None
    if model is not None:
        # The version gets a copy of it.
        store.refuse_pickles(model)
    tokenizer = _load_tokenizer(config, encoder)
    check_kind(config.kind, encoder.dimension)
    exportable = encoder if config.export and isinstance(encoder, SentenceEncoder) else None
    if config.shard is not None:
        config = replace(config, label_head=False)
    holds = config.shard.holds if config.shard is not None else lambda id: True
    sources = Sources(
        rows=[TaskRows.of(folder, holds) for folder in collection.tasks.values()],
        families=collection.families,
        encoder=encoder,
        model=model,
        exported=lambda: None if exportable is None else try_export(exportable, config.engine),
        tokenizer=tokenizer,
        # The encoder's own tokenizer goes by the encoder's name: package folders differ between machines.
        tokenizer_name=config.tokenizer or encoder.name,
    )
    if config.reuse is not None:
        config = replace(config, reuse=located(config.reuse))
    remote = store.RemoteIndex.at(config.out)
    if remote is None:
        with lock_index(config.out):
            return build_from(sources, config, on_progress)
    remote.prepare()
    with lock_index(remote.root):
        built = build_from(sources, replace(config, out=remote.root), on_progress)
    remote.upload(built.path)
    remote.publish(built.version)
    return built


def build_from(
    sources: Sources, config: BuildConfig, on_progress: OnProgress = lambda _: None, staging: Path | None = None
) -> Built:
    """Build a version of these sources, and publish it, in an index directory that is locked; see ``build``.

    It is made in ``staging``, by default a folder that stays if this fails, where a build of the same vectors resumes.
    """
    encoder, tokenizer = sources.encoder, sources.tokenizer
    read, rows_path = Stage("read", None, on_progress), config.out / ".rows.sqlite.tmp"
    long = LongTexts(encoder.window if isinstance(encoder, SentenceEncoder) else None)
    with ingest(rows_path, sources.rows, config.pool, config.seed, read.advance, long.add) as rows:
        if not rows.sizes and (shard := config.shard) is not None:
            raise ConfigError(f"shard {shard.number} of {shard.of} has no row of any task; make fewer shards")
        if notice := long.notice():
            _LOG.warning("%s: %s", config.tasks, notice)
        exported = sources.exported()
        manifest, vectors = identify(
            _describe(config, sources, rows.sizes),
            rows.path,
            carries_model=sources.model is not None,
            carries_export=config.engine if exported is not None else None,
            label_head=config.label_head,
            head_fields=config.head_fields,
        )
        refuse_names(manifest, sources.model)
        folder, encoded = store.version_path(config.out, manifest.version), 0
        if folder.exists():
            store.refuse_damage(folder, "was built before, but is damaged", "remove that folder and build again")
            reused = find_previous(config.reuse, manifest) if config.reuse is not None else None
            write_measured(sources.measured or reused, folder, store.read_manifest(folder))
        else:
            previous = open_previous(config.reuse, manifest) if config.reuse is not None else None
            # Reused vectors may differ in the last bits from those that would be encoded.
            ending = f"-reuse-{previous.digest}" if previous is not None else ""
            with closing(previous) if previous is not None else nullcontext():
                encoded = StagedVersion(
                    path=staging or config.out / f".building-{vectors}{ending}",
                    config=config,
                    manifest=manifest,
                    encoder=encoder,
                    tokenizer=tokenizer,
                    model=sources.model,
                    exported=exported,
                    previous=previous,
                    measured=sources.measured or (previous.version if previous is not None else None),
                    on_progress=on_progress,
                ).finish(rows, folder)
        store.publish(config.out, manifest.version)
    return Built(version=manifest.version, path=folder, sizes=rows.sizes, encoded=encoded)


def _load_tokenizer(config: BuildConfig, encoder: Encoder) -> LoadedTokenizer | None:
    if config.tokenizer is not None:
        return load_tokenizer(config.tokenizer)
    if isinstance(encoder, SentenceEncoder) and (encoder.path / "tokenizer.json").is_file():
        return load_tokenizer(str(encoder.path))
    return None


def _describe(config: BuildConfig, sources: Sources, sizes: Mapping[str, int]) -> store.Manifest:
    """Return the manifest of the version, without its name and its files."""
    encoder, tokenizer, given = sources.encoder, sources.tokenizer, sources.kinds(sizes)
    kinds = {
        name: given.get(name) or resolve(config.kind, count, encoder.dimension, config.flat_below)
        for name, count in sizes.items()
    }
    if small := [name for name, kind in kinds.items() if sizes[name] < rows_to_train(kind)]:
        _LOG.warning("flat, with too few demonstrations to train %r: %s", config.kind, ", ".join(small))
        kinds |= dict.fromkeys(small, store.FLAT)
    tasks, counted = {each.task.name: each.task for each in sources.rows}, None
    if tokenizer is not None:
        counted = store.TokenizerStamp(name=sources.tokenizer_name, fingerprint=tokenizer.fingerprint)
    return store.Manifest(
        version="",
        encoder=store.EncoderStamp.of(encoder),
        tokenizer=counted,
        wording=ENCODER_WORDING,
        dtype=config.dtype,
        families=sources.families,
        partitions={
            name: store.Partition(
                task=tasks[name], count=count, kind=kinds[name], lexical=RULE if config.bm25 else None
            )
            for name, count in sizes.items()
        },
        files={},
    )
