"""The commands ``udr index build``, ``verify`` and ``info``: arguments to configuration to one call."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from udr.cli import command_group
from udr.errors import VerificationError
from udr.models import DEFAULT_ENCODER

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
    device: Annotated[str | None, typer.Option(help="Where the encoder runs: cpu, cuda, ...")] = None,
    as_json: _Json = False,
) -> None:
    """Build an index of the tasks' training rows and publish it."""
    # Imported here, so that `udr --help` stays light.
    from udr_index.build import build as run
    from udr_index.config import BuildConfig

    names = tuple(tasks.split(",")) if tasks is not None else None
    config = BuildConfig(tasks=tasks_folder, out=out, model=model, names=names, pool=pool, seed=seed, device=device)
    built = run(config, progress=_show if sys.stderr.isatty() else None)
    if as_json:
        keys = {"version": built.version, "path": str(built.path), "tasks": built.sizes, "encoded": built.encoded}
        typer.echo(json.dumps(keys, ensure_ascii=False).encode())
    else:
        count, number = sum(built.sizes.values()), len(built.sizes)
        typer.echo(f"{out}: version {built.version}, {count} demonstrations of {number} tasks, {built.encoded} encoded")


@app.command()
def verify(index: _Index, as_json: _Json = False) -> None:
    """Compare every file with its checksum. Prints one line a finding; exit status 3 when there is any."""
    from udr.verification import verify as check

    findings = check(index)
    if as_json:
        listed = [{"path": finding.path, "problem": finding.problem} for finding in findings]
        typer.echo(json.dumps({"whole": not findings, "findings": listed}, ensure_ascii=False).encode())
    else:
        for finding in findings:
            typer.echo(str(finding).encode())
    if findings:
        number = "1 finding" if len(findings) == 1 else f"{len(findings)} findings"
        raise VerificationError(f"{index}: is not whole, {number}")
    if not as_json:
        typer.echo(f"{index}: whole")


@app.command()
def info(index: _Index, as_json: _Json = False) -> None:
    """Show what an index holds: version, encoder, tasks and their sizes."""
    from udr.store import open_version

    manifest = open_version(index).manifest
    encoder, partitions = manifest.encoder, manifest.partitions
    if as_json:
        keys = {
            "version": manifest.version,
            "encoder": {
                "name": encoder.name,
                "fingerprint": encoder.fingerprint,
                "dimension": encoder.dimension,
                "metric": encoder.metric,
            },
            "tasks": {
                name: {"family": part.task.family, "count": part.count, "kind": part.kind}
                for name, part in partitions.items()
            },
        }
        typer.echo(json.dumps(keys, ensure_ascii=False).encode())
        return
    typer.echo(f"version {manifest.version}")
    typer.echo(f"encoder {encoder.name} ({encoder.dimension} dimensions, {encoder.metric}, {encoder.fingerprint})")
    for name, part in partitions.items():
        typer.echo(f"{part.count:>9}  {part.task.family}/{name}  {part.kind}")


def _show(done: int, total: int) -> None:
    ending = "\n" if done == total else "\r"
    typer.echo(f"udr: encoded {done}/{total} demonstrations{ending}", err=True, nl=False)
