"""The name of an index version: a hash of everything that its contents depend on; and the names that it may hold."""

import hashlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from udr import store
from udr.errors import ConfigError
from udr.files import canonical_json
from udr.models import EXACT, VERSION, Runtime
from udr.types import Json
from udr_index.build.label_head import FIELDS_RECIPE, RECIPE, considered, fields_apart


def identify(
    manifest: store.Manifest,
    demonstrations: Path,
    *,
    carries_model: bool,
    carries_export: Runtime | None,
    label_head: bool | None = None,
    head_fields: bool = True,
) -> tuple[store.Manifest, str]:
    """Name a version after a hash of everything that its contents depend on, known before anything is encoded.

    Args:
        manifest: the version's, without its name and its files.
        demonstrations: the file of its rows.
        carries_model: whether it has a copy of the encoder.
        carries_export: the engine that it has an export of the encoder for; None if it has none.
        label_head: whether its classification tasks have label heads; None decides for each.
        head_fields: whether heads may read two fields apart.

    Returns:
        The manifest with the name, and a hash of what the vectors depend on, so not of the kinds of partitions, the
        tokenizer and the export; 16 hex digits each.
    """
    encoder, tokenizer = manifest.encoder, manifest.tokenizer
    common: dict[str, Json] = {
        "format": store.FORMAT,
        "wording": manifest.wording,
        "encoder": [encoder.name, encoder.fingerprint, encoder.dimension, encoder.metric],
        "carries_model": carries_model,
        "dtype": manifest.dtype,
        "families": {family.name: family.instruction for family in manifest.families.values()},
    }
    whole, vectors = (hashlib.sha256(canonical_json(common)) for _ in range(2))
    whole.update(b"\n" + canonical_json([tokenizer.name, tokenizer.fingerprint] if tokenizer else None))
    if carries_export is not None:
        # Not named if it is the one that every index had before there were others.
        others: dict[str, Json] = {} if carries_export == EXACT else {"engine": carries_export}
        whole.update(b"\n" + canonical_json({"export": VERSION, **others}))
    with closing(store.DemonstrationTable(demonstrations)) as table:
        for name, part in manifest.partitions.items():
            task = part.task.to_json()
            # What is not considered for a head has the name that it had before there were any; what reads no fields
            # apart, that of before some did.
            recipe = FIELDS_RECIPE if head_fields and fields_apart(part) else RECIPE
            head: list[Json] = [recipe, label_head] if considered(part, label_head) else []
            whole.update(b"\n" + canonical_json([part.kind, part.lexical_json(), task, *head]))
            vectors.update(b"\n" + canonical_json(task))
            for line in table.lines(name):
                whole.update(line)
                vectors.update(line)
    return replace(manifest, version=whole.hexdigest()[:16]), vectors.hexdigest()[:16]


def head_options(
    manifest: store.Manifest, demonstrations: Path, *, carries_model: bool, carries_export: Runtime | None
) -> tuple[bool | None, bool] | None:
    """Return how the build of a version was asked for label heads: ``label_head`` and ``head_fields`` of ``identify``.

    The manifest does not say so, but the name depends on it. What the name does not tell is the default. The arguments
    are those of ``identify``, but the manifest has the name. None if this udr does not give it that name: an older one
    built it, whose heads may be others.
    """
    if not any(considered(part, True) for part in manifest.partitions.values()):
        return None, True
    for head_fields in (True, False):
        for label_head in (None, True, False):
            named, _ = identify(
                manifest,
                demonstrations,
                carries_model=carries_model,
                carries_export=carries_export,
                label_head=label_head,
                head_fields=head_fields,
            )
            if named.version == manifest.version:
                return label_head, head_fields
    return None


def refuse_names(manifest: store.Manifest, model: Path | None) -> None:
    """Raise ``ConfigError`` if a name would make the version one that nothing opens, before anything is encoded."""
    names = [] if model is None else [path.relative_to(model) for path in model.rglob("*") if path.is_file()]
    stamp = store.FileStamp(size=0, sha256="0" * 64)
    copied = {f"{store.MODEL}/{name.as_posix()}": stamp for name in names}
    try:
        store.check_manifest(replace(manifest, files=copied))
    except ValueError as error:
        raise ConfigError(
            f"{error}: an index names its encoder and the encoder's files, each by at most 512 printable characters; "
            "rename or move them, and build again"
        ) from error
