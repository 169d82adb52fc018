"""The commands ``udr index build``, ``verify`` and ``info``: arguments to configuration to one call."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from udr.cli import Fp16, command_group, names_of, print_json, print_text
from udr.errors import VerificationError
from udr.models import DEFAULT_ENCODER
from udr.types import Json
from udr_index.plural import counted
from udr_index.versions import add_commands

if TYPE_CHECKING:
    from udr.store import Dtype

app = command_group("Build indexes of demonstrations, and look after them.")

_Index = Annotated[Path, typer.Argument(help="The index directory.", metavar="DIR", show_default=False)]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def build(
    tasks_folder: Annotated[
        Path, typer.Argument(help="A collection: <family>/<task>/task.toml and rows.", metavar="TASKS")
    ],
    out: Annotated[Path, typer.Option("--out", help="The index directory; a build that was cut short goes on.")],
    model: Annotated[
        str, typer.Option("--model", help="The encoder: a hub name, a path, or package:NAME.")
    ] = DEFAULT_ENCODER,
    tasks: Annotated[
        str | None, typer.Option("--tasks", help="Tasks to take, separated by commas; all by default.")
    ] = None,
    pool: Annotated[int | None, typer.Option(help="At most so many demonstrations of a task, by seed.")] = None,
    seed: Annotated[int, typer.Option(help="Of that choice.")] = 0,
    device: Annotated[
        str | None, typer.Option(help="Where the encoder runs, and indexes are trained: cpu, cuda, ...")
    ] = None,
    kind: Annotated[
        str, typer.Option(help="Of partitions: auto, flat, hnsw, ivf, ivfpq, cagra, or a factory string of faiss.")
    ] = "auto",
    flat_below: Annotated[
        int | None,
        typer.Option(help="Smaller partitions are flat.", show_default="100000 for auto, else 0", metavar="N"),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="Whose tokens are counted and kept, so that prompts needn't: a tokenizer.json, or a model's name.",
            show_default="the encoder's",
        ),
    ] = None,
    bm25: Annotated[bool, typer.Option("--bm25", help="Build a BM25 index of the inputs, too.")] = False,
    dtype: Annotated[str, typer.Option(help="What vectors are kept as: float32 or float16.")] = "float32",
    reuse: Annotated[
        Path | None,
        typer.Option(help="An index whose vectors of unchanged texts are taken over; may be --out.", metavar="DIR"),
    ] = None,
    threads: Annotated[
        int, typer.Option(help="That build graphs (hnsw); with more than one, their bytes differ each time.")
    ] = 1,
    as_json: _Json = False,
) -> None:
    """Build an index of the tasks' training rows and publish it."""
    # Imported here, so that `udr --help` stays light.
    from udr_index.build import BuildConfig, Shown
    from udr_index.build import build as run

    config = BuildConfig(
        tasks=tasks_folder,
        out=out,
        model=model,
        names=names_of(tasks),
        pool=pool,
        seed=seed,
        device=device,
        kind=kind,
        flat_below=flat_below,
        tokenizer=tokenizer,
        bm25=bm25,
        dtype=cast("Dtype", dtype),
        reuse=reuse,
        threads=threads,
    )
    built = run(config, on_progress=Shown())
    if as_json:
        sizes: dict[str, Json] = {**built.sizes}
        print_json({"version": built.version, "path": str(built.path), "tasks": sizes, "encoded": built.encoded})
    else:
        count, number = sum(built.sizes.values()), len(built.sizes)
        print_text(f"{out}: version {built.version}, {count} demonstrations of {number} tasks, {built.encoded} encoded")


@app.command()
def verify(
    index: _Index,
    sample: Annotated[
        int,
        typer.Option(help="Rows of each task that are encoded again; 0 compares checksums only.", min=0, metavar="N"),
    ] = 16,
    as_json: _Json = False,
) -> None:
    """Compare every file with its checksum, and a sample of the vectors with what the encoder gives.

    Prints one line a finding; exit status 3 when there is any.
    """
    from udr.store import verify as check

    findings = check(index)
    # Where files are damaged, rows and vectors cannot be relied on.
    if sample and not findings:
        from udr.models import SentenceEncoder
        from udr.store import open_version
        from udr_index.versions import compare_vectors

        version = open_version(index)
        findings = list(compare_vectors(version, SentenceEncoder.load(version.model), sample))
    if as_json:
        listed = [{"path": finding.path, "problem": finding.problem} for finding in findings]
        print_json({"whole": not findings, "findings": listed})
    else:
        for finding in findings:
            print_text(str(finding))
    if findings:
        raise VerificationError(f"{index}: is not whole, {counted(len(findings), 'finding')}")
    if not as_json:
        print_text(f"{index}: whole")


@app.command()
def bench(
    index: _Index,
    recall: Annotated[float, typer.Option(help="To reach: of the nearest, the share that is found.")] = 0.95,
    k: Annotated[int, typer.Option(help="Demonstrations of a query.")] = 10,
    queries: Annotated[int, typer.Option(help="Rows of each task whose inputs are asked for.")] = 200,
    device: Annotated[str | None, typer.Option(help="Where to encode and search: cpu, cuda, ...")] = None,
    fp16: Fp16 = False,
    as_json: _Json = False,
) -> None:
    """Measure every partition, and keep the cheapest search settings that reach a recall.

    Exit status 3 when one reaches it with none; the best settings are kept then.
    """
    from udr.models import SentenceEncoder
    from udr.store import open_version
    from udr_index.bench import bench as run
    from udr_index.bench import not_reached

    version = open_version(index)
    encoder = SentenceEncoder.load(version.model, device=device)
    measured = []
    for one in run(version, encoder, recall, k=k, queries=queries, device=device, fp16=fp16):
        measured.append(one)
        if as_json:
            print_json(asdict(one))
        else:
            settings = f"  {one.settings.parameters} oversample={one.settings.oversample}" if one.settings else ""
            line = f"{one.task}  {one.kind}  recall@{k} {one.recall:.3f}  {one.milliseconds:.2f} ms{settings}"
            print_text(line)
    if short := not_reached(measured, recall):
        raise VerificationError(f"{index}: recall {recall} is not reached for {', '.join(short)}")


@app.command()
def info(index: _Index, as_json: _Json = False) -> None:
    """Show what an index holds: version, encoder, tokenizer, tasks, their sizes, and how they are searched."""
    from udr.store import open_version, read_settings

    version = open_version(index)
    manifest, settings = version.manifest, read_settings(version.path, version.manifest)
    encoder, tokenizer, partitions = manifest.encoder, manifest.tokenizer, manifest.partitions
    if as_json:
        keys: dict[str, Json] = {
            "version": manifest.version,
            "encoder": {
                "name": encoder.name,
                "fingerprint": encoder.fingerprint,
                "dimension": encoder.dimension,
                "metric": encoder.metric,
            },
            "tokenizer": asdict(tokenizer) if tokenizer else None,
            "dtype": manifest.dtype,
            "tasks": {
                name: {
                    "family": part.task.family,
                    "count": part.count,
                    "kind": part.kind,
                    "bm25": part.lexical,
                    "search": asdict(settings[name]) if name in settings else None,
                }
                for name, part in partitions.items()
            },
        }
        print_json(keys)
        return
    print_text(f"version {manifest.version}")
    measures = f"{encoder.dimension} dimensions, {encoder.metric}, {manifest.dtype}"
    print_text(f"encoder {encoder.name} ({measures}, {encoder.fingerprint})")
    print_text(f"tokenizer {tokenizer.name} ({tokenizer.fingerprint})" if tokenizer else "tokenizer none")
    for name, part in partitions.items():
        searched = f"  {settings[name].parameters}".rstrip() if name in settings else ""
        words = "  bm25" if part.lexical else ""
        print_text(f"{part.count:>9}  {part.task.family}/{name}  {part.kind}{searched}{words}")


add_commands(app)
