"""The commands ``udr index build``, ``verify``, ``bench`` and ``info``."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from udr.cli import (
    AllowHub,
    AsJson,
    Fp16,
    IndexDir,
    check_tokenizers,
    command_group,
    expand_options,
    help_groups,
    names_of,
    print_json,
    print_text,
    refuse_unused,
)
from udr.errors import ConfigError, VerificationError, naming
from udr.models import DEFAULT_ENCODER, RunnerOptions
from udr.types import Json
from udr_index.plural import counted
from udr_index.versions import add_commands
from udr_index.versions.live import add_commands as add_live_commands

if TYPE_CHECKING:
    from udr.models import SentenceEncoder
    from udr_index.build import BuildConfig, Built

_NOT_SETTINGS = ("tasks_folder", "tasks", "shards", "shard", "runner", "as_json")

app = command_group("Build indexes of demonstrations, and manage their versions.")


@app.command()
@expand_options
@help_groups(
    {
        "Tasks and output": "out tasks pool seed as_json",
        "Encoder": "model device tokenizer export engine reuse",
        "Search": "kind flat_below dtype threads bm25 label_head head_fields",
        "Several machines": "shards shard runner workers gpus_per_worker ray_address",
    }
)
def build(
    tasks_folder: Annotated[Path, typer.Argument(help="The folder of tasks, <family>/<task>/.", metavar="TASKS")],
    out: Annotated[Path, typer.Option("--out", help="The index directory. An interrupted build resumes.")],
    model: Annotated[str, typer.Option(help="The encoder: a hub name, a path, or package:NAME.")] = DEFAULT_ENCODER,
    tasks: Annotated[str | None, typer.Option(help="Tasks, separated by commas.", show_default="all")] = None,
    pool: Annotated[
        int | None, typer.Option(help="At most this many demonstrations per task, sampled by seed.", show_default="all")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The seed of that sample.", show_default="0")] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="The device for encoding and index training: cpu, cuda, ...",
            show_default="a GPU if there is one, else cpu",
        ),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(help="The kind of partitions: auto, flat, hnsw, ivf, ivfpq, cagra, or a faiss factory string."),
    ] = "auto",
    flat_below: Annotated[
        int | None,
        typer.Option(help="Make partitions with fewer rows flat.", show_default="100000 for auto, else 0", metavar="N"),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="The tokenizer that counts tokens for prompts in advance: a tokenizer.json, or a model.",
            show_default="the encoder's",
        ),
    ] = None,
    bm25: Annotated[
        bool, typer.Option("--bm25/--no-bm25", help="Also index the inputs' words, for the modes bm25 and hybrid.")
    ] = True,
    label_head: Annotated[
        bool | None,
        typer.Option(
            "--label-head/--no-label-head",
            help="Give classification tasks a head that ranks by the query's likely label, too.",
            show_default="where cross-validation shows a gain",
        ),
    ] = None,
    head_fields: Annotated[
        bool,
        typer.Option(
            "--head-fields/--no-head-fields",
            help="Let the label head of a task with two fields read them apart where cross-validation shows a gain; "
            "queries then cost two more passes of the encoder.",
        ),
    ] = True,
    export: Annotated[
        bool,
        typer.Option(
            "--export/--no-export", help="Carry the encoder for ONNX Runtime, so that services need no torch."
        ),
    ] = True,
    engine: Annotated[
        str,
        typer.Option(
            help="What that is for: onnx, or onnx-int8, which adds a graph in 8 bits: faster, but less exact."
        ),
    ] = "onnx",
    dtype: Annotated[str, typer.Option(help="The type of the stored vectors: float32 or float16.")] = "float32",
    reuse: Annotated[
        Path | None,
        typer.Option(help="Reuse this index's vectors of unchanged texts; may equal --out.", metavar="DIR"),
    ] = None,
    threads: Annotated[
        int, typer.Option(help="Threads per hnsw graph; with more than 1, equal builds can differ.")
    ] = 1,
    shards: Annotated[
        int | None,
        typer.Option(help="Make N indexes, each of some rows of every task, for pools larger than a machine.", min=1),
    ] = None,
    shard: Annotated[int | None, typer.Option(help="Make only this one of them, from 1.", metavar="I")] = None,
    runner: RunnerOptions = RunnerOptions(),  # noqa: B008
    as_json: AsJson = False,
) -> None:
    """Build an index of the tasks' training rows and publish it."""
    given = dict(locals())
    settings = {name: given[name] for name in given if name not in _NOT_SETTINGS}
    # Imported here, so that `udr --help` stays light.
    from udr.data import task_files
    from udr.files import remote_url
    from udr_index.build import BuildConfig, show_progress
    from udr_index.build import build as run

    if pool is None:
        refuse_unused({"--seed": seed}, "--pool, the size of a sample")
    settings["seed"] = seed or 0
    if out.is_file():
        raise ConfigError(f"--out: {out} is a file; name a folder, which need not exist")
    if out.is_dir() and next(task_files(out), None) is not None:
        raise ConfigError(f"--out: {out} is a folder of tasks; name another one for the index")
    if shard is not None and shards is None:
        raise ConfigError(f"--shard {shard} needs --shards, the number of shards")
    if tokenizer is not None:
        check_tokenizers([tokenizer])
    config = BuildConfig(**settings, tasks=tasks_folder, names=names_of(tasks))
    with naming(out), _workers(config, runner) as encoder:
        if shards is not None:
            from udr_index.versions import build_shards

            for each in build_shards(config, shards, shard, encoder=encoder, on_progress=show_progress):
                _show_built(each, each.path.parent.parent, as_json)
        else:
            _show_built(run(config, encoder, on_progress=show_progress), out, as_json)
            if not as_json:
                print_text(f"Next: udr serve {shlex.quote(remote_url(out) or str(out))}")


@contextmanager
def _workers(config: "BuildConfig", runner: RunnerOptions) -> "Iterator[SentenceEncoder | None]":
    """Open the workers that encode; None without any."""
    device = config.device or "cpu"
    runner.check(device)
    if runner.is_local:
        yield None
        return
    from udr.models import SentenceEncoder, scattered

    with scattered(SentenceEncoder.load(config.model, config.device), runner, device) as encoder:
        yield encoder


def _show_built(built: "Built", out: Path, as_json: bool) -> None:
    if as_json:
        sizes: dict[str, Json] = {**built.sizes}
        print_json({"version": built.version, "path": str(built.path), "tasks": sizes, "encoded": built.encoded})
    else:
        rows = counted(sum(built.sizes.values()), "demonstration")
        number = counted(len(built.sizes), "task")
        known = "" if built.encoded else "; nothing is new since an earlier build"
        print_text(f"{out}: version {built.version} is ready, with {rows} of {number}{known}")


@app.command()
def verify(
    index: IndexDir,
    sample: Annotated[
        int, typer.Option(help="Rows per task to encode again; 0 compares checksums only.", min=0, metavar="N")
    ] = 16,
    allow_hub: AllowHub = False,
    as_json: AsJson = False,
) -> None:
    """Compare every file with its checksum, and a sample of the vectors with the encoder's output.

    Prints one line per finding. The exit status is 3 if there is any.
    """
    from udr.store import local_index, read_current
    from udr.store import verify as check
    from udr_index.versions.live import verify_log

    index = local_index(index)
    if not index.is_dir():
        # Says that there is none.
        read_current(index)
    findings = check(index) + verify_log(index)
    # Rows and vectors of damaged files are not worth comparing.
    if sample and not findings:
        from udr.models import SentenceEncoder
        from udr.store import encoder_name, open_version
        from udr_index.versions import compare_vectors

        version = open_version(index)
        encoder = SentenceEncoder.load(encoder_name(version, allow_hub=allow_hub))
        findings = list(compare_vectors(version, encoder, sample))
    if as_json:
        print_json({"whole": not findings, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            print_text(str(finding))
    if findings:
        raise VerificationError(f"{index}: damaged, {counted(len(findings), 'finding')}")
    if not as_json:
        print_text(f"{index}: intact")


@app.command()
def bench(
    index: IndexDir,
    recall: Annotated[float, typer.Option(help="The share of the nearest demonstrations to find.")] = 0.95,
    k: Annotated[int, typer.Option(help="Demonstrations per query.")] = 10,
    queries: Annotated[int, typer.Option(help="Rows of each task to use as queries.")] = 200,
    device: Annotated[
        str | None,
        typer.Option(
            help="The device for the encoder and the search: cpu, cuda, ...",
            show_default="a GPU if there is one, else cpu",
        ),
    ] = None,
    fp16: Fp16 = False,
    engines: Annotated[
        bool, typer.Option("--engines", help="Compare the engines that can encode queries here; store nothing.")
    ] = False,
    allow_hub: AllowHub = False,
    as_json: AsJson = False,
) -> None:
    """Measure every partition, and store the fastest search settings that reach a recall.

    If no settings reach it, the best ones are stored, and the exit status is 3. With --engines, measure instead how
    fast each engine encodes queries on this processor, and how far it agrees with float32.
    """
    if engines:
        _bench_engines(index, queries, as_json)
        return
    from udr.models import SentenceEncoder
    from udr.store import encoder_name, open_version
    from udr_index.bench import bench as run

    version = open_version(index)
    encoder = SentenceEncoder.load(encoder_name(version, allow_hub=allow_hub), device=device)
    low = []
    for measured in run(version, encoder, recall, k=k, queries=queries, device=device, fp16=fp16):
        if measured.recall < recall:
            low.append(measured.task)
        if as_json:
            print_json(asdict(measured))
            continue
        line = f"{measured.task}  {measured.kind}  recall@{k} {measured.recall:.3f}  {measured.milliseconds:.2f} ms"
        if measured.settings:
            line += f"  {measured.settings.parameters} oversample={measured.settings.oversample}"
        print_text(line)
    if low:
        raise VerificationError(f"{index}: recall {recall} is not reached for {', '.join(low)}")


def _bench_engines(index: Path, queries: int, as_json: bool) -> None:
    from udr.store import open_version
    from udr_index.engines import NEAREST, bench_engines

    version = open_version(index)
    measured = bench_engines(version, queries=queries)
    fastest = max(measured, key=lambda item: item.texts_a_second)
    if as_json:
        print_json({"engines": [asdict(item) for item in measured], "fastest": fastest.engine})
        return
    for item in measured:
        print_text(
            f"{item.engine:<10} {item.texts_a_second:>7.0f} texts/s ({item.gain:.2f} times onnx)  "
            f"{item.milliseconds:.2f} ms for one  cosine {item.agreement:.4f}, at least {item.worst:.4f}  "
            f"{NEAREST} nearest shared {item.shared:.3f}"
        )
    if not version.has_int8:
        print_text(f"onnx-int8 is not in this index; add it: udr index export-encoder {index} --engine onnx-int8")
    print_text(f"fastest: {fastest.engine}; use it: udr serve {index} --engine {fastest.engine}")


@app.command()
def info(index: IndexDir, as_json: AsJson = False) -> None:
    """Show what an index holds: version, encoder, tokenizer, tasks, their sizes, and their search settings."""
    from udr.models import Description
    from udr.search import PASSES
    from udr.store import ENCODER, local_index, open_version, read_settings, read_weights

    version = open_version(local_index(index))
    manifest, settings = version.manifest, read_settings(version.path, version.manifest)
    weights = read_weights(version.path, manifest)
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


add_commands(app)
add_live_commands(app)
