"""Adding the export of its encoder to an index that has none, as a new version."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from udr.errors import ConfigError
from udr.files import fresh_folder, sync, sync_tree, write_atomically
from udr.models import EXACT, Runtime, SentenceEncoder
from udr.store import (
    DEMONSTRATIONS,
    ENCODER,
    MANIFEST,
    IndexVersion,
    Manifest,
    encoder_name,
    open_version,
    read_manifest,
    refuse_damage,
    version_path,
)
from udr.store import publish as write_current
from udr_index.build import check_engine, copy_export, export, head_options, identify, stamps, write_measured
from udr_index.versions.catalog import Published, lock_existing


def export_encoder(root: Path, *, engine: Runtime = EXACT, allow_hub: bool = False) -> Published:
    """Publish the current version of the index at ``root`` again, with its encoder's export.

    It is the version that ``udr index build`` makes of the same rows. Files that are the same are links to one file, if
    the file system has links.

    Args:
        root: the index directory.
        engine: ``onnx``, or ``onnx-int8``, which adds a graph in 8 bits for queries.
        allow_hub: load the encoder from the Hugging Face hub if the index names it there.

    Raises:
        ConfigError: an index cannot carry its encoder for this engine, or an older udr may have fitted its label heads.
        ArtifactError: there is no index, its encoder may not be loaded, or another command is running in it.
        VerificationError: the version is damaged.
        ModelError: the encoder cannot be loaded or exported.
        MissingExtraError: the exporter is not installed.
    """
    check_engine(engine)
    with lock_existing(root):
        old = open_version(root)
        if old.has_int8 or (old.has_export and engine == EXACT):
            return Published(version=old.manifest.version, previous=old.manifest.version)
        refuse_damage(old.path)
        manifest = _named(old, engine)
        encoder = SentenceEncoder.load(encoder_name(old, allow_hub=allow_hub), "cpu")
        exported = export(encoder, engine)
        folder = version_path(root, manifest.version)
        if folder.exists():
            refuse_damage(folder)
            write_measured(old, folder, read_manifest(folder))
        else:
            with fresh_folder(root / f".building-{manifest.version}") as staging:
                kept = {name: stamp for name, stamp in old.manifest.files.items() if not name.startswith(f"{ENCODER}/")}
                for name in kept:
                    (staging / name).parent.mkdir(parents=True, exist_ok=True)
                    _link(old.path / name, staging / name)
                copy_export(exported, staging)
                manifest = replace(manifest, files={**kept, **stamps(staging, (staging / ENCODER).rglob("*"))})
                write_measured(old, staging, manifest)
                sync_tree(staging)
                write_atomically(staging / MANIFEST, manifest.to_bytes())
                staging.rename(folder)
                sync(folder.parent)
            refuse_damage(folder, "is damaged and was not published", "remove that folder and run the command again")
        write_current(root, manifest.version)
    return Published(version=manifest.version, previous=old.manifest.version)


def _named(old: IndexVersion, engine: Runtime) -> Manifest:
    """Return the manifest of a version under the name that a build with an export gives it.

    Raises:
        ConfigError: such a build may fit other label heads.
    """
    rows, has_model = old.path / DEMONSTRATIONS, old.has_model
    had = EXACT if old.has_export else None
    options = head_options(old.manifest, rows, carries_model=has_model, carries_export=had)
    if options is None:
        raise ConfigError(
            f"{old.path}: an older udr built it, and may have fitted other label heads than this one; build it again, "
            "with its encoder's export: udr index build"
        )
    label_head, head_fields = options
    manifest, _ = identify(
        old.manifest,
        rows,
        carries_model=has_model,
        carries_export=engine,
        label_head=label_head,
        head_fields=head_fields,
    )
    return manifest


def _link(source: Path, target: Path) -> None:
    # Files of versions never change, so two versions may share them.
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
