"""Compaction: a new version of the rows of the current one and what was written on top of it."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from udr.errors import ArtifactError, MissingExtraError, ModelError, NotWriterError, StorageError
from udr.files import fresh_folder
from udr.models import EXACT, INT8, Encoder, LoadedTokenizer, Runtime, load_tokenizer
from udr.store import (
    COMPACTING,
    DEMONSTRATIONS,
    ENCODER,
    FLAT,
    IndexVersion,
    named_encoder,
    open_version,
    read_current,
    refuse_damage,
)
from udr.store.live import LivePool, Overlay, View
from udr.types import Row
from udr_index.build import FLAT_BELOW, BuildConfig, OnProgress, Sources, TaskRows, build_from, head_options, resolve
from udr_index.lock import lock_index
from udr_index.versions.live.rows import open_rows

_LOG = logging.getLogger(__name__)

_KINDS = ("auto", "hnsw", "ivf", "ivfpq")


@dataclass(frozen=True, kw_only=True, slots=True)
class Compacted:
    """What a compaction made.

    Attributes:
        version: the version that is current now.
        previous: the one before; the same if the writes left nothing to do.
        position: the position of the last write that the version has.
        sizes: how many rows each task has.
        encoded: how many texts were encoded.
        refitted: the tasks whose label heads were fitted again.
        forgotten: whether the log was emptied.
    """

    version: str
    previous: str
    position: int
    sizes: Mapping[str, int]
    encoded: int = 0
    refitted: tuple[str, ...] = ()
    forgotten: bool = False


def compact(
    root: Path,
    encoder: Encoder | None = None,
    *,
    forget: bool = False,
    allow_hub: bool = False,
    on_progress: OnProgress = lambda _: None,
) -> Compacted:
    """Make the version that a build of the present rows makes, with the options of the current one, and publish it.

    What is written meanwhile stays on top of it. The log keeps what it needs to repeat the writes on other versions. Of
    a task that has no rows left, the new version has the rows of the current one, and the log their deletion.

    Args:
        root: the index directory.
        encoder: a loaded encoder, the one that made the current version; None loads it.
        forget: empty the log of what the new version has, so that versions built of other rows do not get it. No other
            process can write meanwhile.
        allow_hub: load the encoder from the Hugging Face hub if the index names it there.
        on_progress: called as the work proceeds.

    Raises:
        ArtifactError: there is no index, another command is running in it, or its encoder cannot be loaded.
        VerificationError: the version or the log is damaged.
        NotWriterError: ``forget``, while another process writes; nothing was made.
        StorageError: ``forget``, and the log cannot be rewritten, though the new version is current.
    """
    # Before the lock, which makes the directory.
    read_current(root)
    with lock_index(root):
        version = open_version(root)
        refuse_damage(version.path)
        with open_rows(root, version) as pool:
            if forget:
                # First, so that nothing is made if another process writes.
                pool.take_lock()
            view = pool.view()
            if emptied := ", ".join(_emptied(view)):
                _LOG.warning(
                    "%s: a version needs a row of each task; of %s, which has none left, it keeps those that were "
                    "deleted, and the log keeps their deletion",
                    root,
                    emptied,
                )
            if not view.changed:
                compacted = Compacted(
                    version=version.manifest.version,
                    previous=version.manifest.version,
                    position=view.position,
                    sizes=view.sizes,
                )
            else:
                loaded = encoder or named_encoder(version, allow_hub=allow_hub, replaced=True)
                version.manifest.encoder.check(loaded)
                compacted = _built(root, version, view, loaded, on_progress)
            _shorten(pool, forget, compacted)
    return replace(compacted, forgotten=forget)


def _built(root: Path, old: IndexVersion, view: View, encoder: Encoder, on_progress: OnProgress) -> Compacted:
    manifest, tokenizer = old.manifest, _tokenizer(old)
    engine: Runtime | None = (INT8 if old.has_int8 else EXACT) if old.has_export else None
    options = head_options(manifest, old.path / DEMONSTRATIONS, carries_model=old.has_model, carries_export=engine)
    if options is None:
        _LOG.warning("%s: an older udr built it; label heads are fitted as without options of a build", old.path)
    label_head, head_fields = options or (None, True)
    parts, present = manifest.partitions, dict.fromkeys(manifest.partitions, view)
    present |= dict.fromkeys(_emptied(view), View(view.base, Overlay()))
    sources = Sources(
        rows=[_rows(present[task], task) for task in parts],
        families=manifest.families,
        encoder=encoder,
        model=Path(old.model) if old.has_model else None,
        exported=lambda: old.path / ENCODER if old.has_export else None,
        tokenizer=tokenizer,
        tokenizer_name=manifest.tokenizer.name if manifest.tokenizer is not None else "",
        kinds=lambda sizes: {task: _kind(old, task, count) for task, count in sizes.items()},
        measured=old,
    )
    config = BuildConfig(
        tasks=root,
        out=root,
        dtype=manifest.dtype,
        bm25=any(part.lexical for part in parts.values()),
        label_head=label_head,
        head_fields=head_fields,
        export=engine is not None,
        engine=engine or EXACT,
        reuse=root,
    )
    # It is not resumed: each later write would leave another folder behind.
    with fresh_folder(root / COMPACTING) as staging:
        built = build_from(sources, config, on_progress, staging)
    new = open_version(root, built.version).manifest
    refitted = tuple(task for task, part in new.partitions.items() if part.label_head or parts[task].label_head)
    if refitted and built.version != manifest.version:
        _LOG.info("label heads fitted again on the present rows: %s", ", ".join(refitted))
    return Compacted(
        version=built.version,
        previous=manifest.version,
        position=view.position,
        sizes=view.sizes,
        encoded=built.encoded,
        refitted=refitted,
    )


def _emptied(view: View) -> list[str]:
    """Return the tasks of which all rows were deleted."""
    return [task for task, size in view.sizes.items() if not size]


def _shorten(pool: LivePool, forget: bool, compacted: Compacted) -> None:
    """Rewrite the log without what later writes undid, and without what the new version has if that is forgotten."""
    try:
        # The new version has the same tasks as the pool's.
        pool.shorten(compacted.position if forget else 0, compacted.version)
    except NotWriterError:
        # The process that writes will do so.
        return
    except StorageError as error:
        current = f"version {compacted.version} is current, but the log of writes is as it was: {error}"
        if forget:
            raise StorageError(current) from error
        _LOG.warning("%s", current)


def _rows(view: View, task: str) -> TaskRows:
    def rows() -> Iterator[Row]:
        for page in view.pages(task):
            yield from page

    def refuse() -> None:
        raise ArtifactError(f"task {task!r} has two rows with one id; run: udr index verify")

    return TaskRows(view.base.tasks[task], rows, refuse)


def _kind(old: IndexVersion, task: str, count: int) -> str:
    """Return how the present rows of a task are searched: as a build would, if its option can be told from the old."""
    part, dimension = old.manifest.partitions[task], old.manifest.encoder.dimension
    if part.kind == FLAT:
        return FLAT if count < FLAT_BELOW or part.count >= FLAT_BELOW else resolve("auto", count, dimension)
    for name in _KINDS:
        if part.kind == resolve(name, part.count, dimension):
            return resolve(name, count, dimension)
    return part.kind


def _tokenizer(old: IndexVersion) -> LoadedTokenizer | None:
    stamp = old.manifest.tokenizer
    if stamp is None:
        return None
    for name in (old.tokenizer, stamp.name):
        with suppress(ModelError, MissingExtraError):
            if name is not None and (loaded := load_tokenizer(name)).fingerprint == stamp.fingerprint:
                return loaded
    raise ArtifactError(f"{old.path}: the tokenizer {stamp.name!r} that counted its tokens cannot be loaded here")
