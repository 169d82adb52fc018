"""The command ``udr index info``."""

from dataclasses import asdict

from udr.cli import AsJson, IndexDir, print_json, print_text
from udr.types import Json


def info(index: IndexDir, as_json: AsJson = False) -> None:
    """Show what an index holds: version, encoder, tokenizer, tasks, their sizes, and their search settings.

    It shows, too, how much was written on top of the version.
    """
    from udr.models import Description
    from udr.search import PASSES
    from udr.store import ENCODER, local_index, open_version, read_settings, read_weights
    from udr_index.versions.live import open_rows

    version = open_version(local_index(index))
    manifest, settings = version.manifest, read_settings(version.path, version.manifest)
    weights = read_weights(version.path, manifest)
    with open_rows(version.root, version) as pool:
        rows, size = pool.view().num_changes, pool.log_bytes
    encoder, tokenizer = manifest.encoder, manifest.tokenizer
    export = Description.read(version.path / ENCODER) if version.has_export else None
    if as_json:
        tasks: dict[str, Json] = {
            name: {
                "family": part.task.family,
                "count": part.count,
                "kind": part.kind,
                "bm25": part.lexical is not None,
                "hybrid_weight": weights.get(name),
                "search": asdict(settings[name]) if name in settings else None,
                "label_head": part.label_head.to_json() if part.label_head else None,
            }
            for name, part in manifest.partitions.items()
        }
        print_json(
            {
                "version": manifest.version,
                "encoder": asdict(encoder),
                "export": export.to_json() if export else None,
                "tokenizer": asdict(tokenizer) if tokenizer else None,
                "dtype": manifest.dtype,
                "overlay_rows": rows,
                "overlay_bytes": size,
                "tasks": tasks,
            }
        )
        return
    print_text(f"version {manifest.version}")
    vectors = f"{encoder.dimension} dimensions, {encoder.metric}, {manifest.dtype}"
    print_text(f"encoder {encoder.name} ({vectors}, {encoder.fingerprint})")
    if export:
        int8 = "" if export.int8_agreement is None else f"; queries in 8 bits {export.int8_agreement:.4f}"
        print_text(f"encoder exported for ONNX Runtime, agreement with torch {export.agreement:.7f}{int8}")
    print_text(f"tokenizer {tokenizer.name} ({tokenizer.fingerprint})" if tokenizer else "tokenizer none")
    if size:
        print_text(f"on top {rows} {'row' if rows == 1 else 'rows'} put or deleted since, in a log of {size:,} bytes")
    for name, part in manifest.partitions.items():
        parameters = f"  {settings[name].parameters}".rstrip() if name in settings else ""
        weight = f" (weight of the encoder in hybrid: {weights[name]:g})" if name in weights else ""
        bm25, head = f"  bm25{weight}" if part.lexical else "", ""
        if part.label_head:
            shares = f"{part.label_head.share_without:.2f} to {part.label_head.share:.2f}"
            apart = f"; reads {' and '.join(part.label_head.fields)} apart, by {PASSES} more passes of the encoder"
            head = f"  label head (alpha {part.label_head.alpha:g}; same label among the nearest: {shares}"
            head += f"{apart if part.label_head.fields else ''})"
        print_text(f"{part.count:>9}  {part.task.family}/{name}  {part.kind}{parameters}{bm25}{head}")
