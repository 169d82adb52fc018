"""The command ``udr index build``."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from udr.cli import (
    AsJson,
    check_tokenizers,
    expand_options,
    help_groups,
    names_of,
    print_json,
    print_text,
    refuse_unused,
)
from udr.errors import ConfigError, naming
from udr.models import DEFAULT_ENCODER, RunnerOptions
from udr.types import Json
from udr_index.plural import counted

if TYPE_CHECKING:
    from udr.models import SentenceEncoder
    from udr_index.build import BuildConfig, Built

_NOT_SETTINGS = ("tasks_folder", "tasks", "shards", "shard", "runner", "as_json")


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
            help="The engine that it is for: onnx, or onnx-int8, which adds a graph in 8 bits: faster, but less exact."
        ),
    ] = "onnx",
    dtype: Annotated[str, typer.Option(help="The type of the stored vectors: float32 or float16.")] = "float32",
    reuse: Annotated[
        Path | None,
        typer.Option(
            help="Reuse this index's vectors of unchanged texts, and what was measured; may equal --out.", metavar="DIR"
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            help="Threads that add vectors to an hnsw graph; with more than 1, equal builds can differ. Other kinds "
            "take all cores.",
            show_default="1",
        ),
    ] = None,
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
    if kind == "flat":
        refuse_unused({"--flat-below": flat_below, "--threads": threads}, "a --kind other than flat")
    settings |= {"seed": seed or 0, "threads": 1 if threads is None else threads}
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
