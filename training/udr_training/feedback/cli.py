"""The commands ``udr feedback score | export | stats``: arguments to configuration to one call."""

import json
from pathlib import Path
from typing import Annotated

import typer

from udr.cli import command_group, names_of
from udr.models import DEFAULT_LM
from udr_training.arguments import TaskNames, TasksFolder, quiet, show_progress

app = command_group("Score demonstrations with a language model.")

_Run = Annotated[Path, typer.Argument(help="The directory of `udr feedback score` or `udr train`.", metavar="RUN")]


@app.command()
def score(
    tasks_folder: TasksFolder,
    out: Annotated[Path, typer.Option("--out", help="The run directory; a run that was cut short goes on.")],
    tasks: TaskNames = None,
    lm: Annotated[
        str, typer.Option("--lm", help="Hub name, path, package:NAME, or the address of a completions server.")
    ] = DEFAULT_LM,
    dtype: Annotated[str, typer.Option(help="Its weights: float32, bfloat16, float16.")] = "float32",
    device: Annotated[str, typer.Option(help="Where it runs: cpu, cuda.")] = "cpu",
    pool: Annotated[int, typer.Option(help="Rows of a task's pool, by seed; 0 for all.")] = 0,
    queries: Annotated[int, typer.Option(help="Training queries a task, by seed; 0 for all.")] = 0,
    candidates: Annotated[int, typer.Option(help="K, BM25's best demonstrations for each query.")] = 50,
    random_share: Annotated[float, typer.Option(help="The share of them drawn at random instead.")] = 0.0,
    context: Annotated[int, typer.Option(help="Demonstrations shown before the one that is scored.")] = 0,
    pack_tokens: Annotated[int, typer.Option(help="Tokens a pack; 0 takes what is best on the device.")] = 0,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
    feedback: Annotated[Path | None, typer.Option(help="A file of scores to read and add to.")] = None,
) -> None:
    """Score the training queries' candidates, and print the run directory."""
    from udr.data import open_collection
    from udr_training.config import CandidateConfig, FeedbackConfig, ScoringConfig

    listed = names_of(tasks)
    cut = CandidateConfig(pool=pool, queries=queries, num_candidates=candidates, random_share=random_share)
    who = FeedbackConfig(lm=lm, dtype=dtype, device=device, context=context, pack_tokens=pack_tokens)
    # What makes no sense is told before the seconds that the imports below take.
    ScoringConfig(seed=seed, candidates=cut, feedback=who)
    collection = open_collection(tasks_folder, listed)
    config = ScoringConfig(tasks=tuple(collection.tasks), seed=seed, candidates=cut, feedback=who)

    from udr_training.feedback.run import FeedbackRun

    quiet()
    FeedbackRun(out, collection, config, feedback=feedback, report=show_progress).finish()
    typer.echo(str(out))


@app.command()
def export(run: _Run) -> None:
    """Print a run's scored pairs, one JSON line each."""
    from udr_training.feedback.export import exported

    quiet()
    for pair in exported(run):
        typer.echo(json.dumps(pair, ensure_ascii=False).encode())


@app.command()
def stats(run: _Run, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Print what the scores of a run have cost: pairs, tokens, seconds, bytes."""
    from udr_training.feedback.export import statistics

    numbers = statistics(run).to_json()
    typer.echo(json.dumps(numbers) if as_json else "\n".join(f"{name}: {value}" for name, value in numbers.items()))
