"""The commands ``udr pool score``, ``curate`` and ``synthesise``.

``curate --json`` prints ``folder``, ``rows``, ``kept``, ``dropped`` (numbers) and ``reasons``, how many rows each score
dropped.
"""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from udr.cli import command_group, names_of, print_json, print_text
from udr.files import refuse_existing
from udr_training.config import TasksFolder
from udr_training.pool.synthesis import synthesise
from udr_training.pool.tasks import TaskName, one_task

app = command_group("Score the rows of a pool, keep those worth retrieving, and work out solutions.")
app.command()(synthesise)


@app.command()
def score(
    tasks_folder: TasksFolder,
    out: Annotated[Path, typer.Option("--out", help="The file of scores to write (JSONL).")],
    tasks: TaskName = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="What rows are scored by, separated by commas: labels (does the text speak against the label), "
            "copies, length (cut short, far too long, repeating itself).",
            show_default="all that fit the task",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="The encoder that reads rows for labels: a hub name, a path, package:NAME."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="The device for the encoder: cpu, cuda, ...")] = None,
) -> None:
    """Score every row of a task's pool, without a language model; the pool stays as it is."""
    # Imported here, so that `udr --help` stays light.
    from udr.models import DEFAULT_ENCODER, SentenceEncoder
    from udr_training.pool.scores import write_scores
    from udr_training.pool.scoring import check_ways, score_pool

    folder = one_task(tasks_folder, tasks)
    ways = check_ways(folder.task, names_of(by))
    refuse_existing(out)
    rows = folder.rows("train")
    scores = score_pool(folder.task, rows, ways, partial(SentenceEncoder.load, model or DEFAULT_ENCODER, device))
    write_scores(out, folder.task, rows, scores)
    for one in scores:
        print_text(f"{one.name}: {len(one.flagged)} of {len(rows)} rows flagged, below {one.flagged_below:g}")
    print_text(str(out))


@app.command()
def curate(
    tasks_folder: TasksFolder,
    scores: Annotated[Path, typer.Option("--scores", help="The file of `udr pool score`.")],
    out: Annotated[Path, typer.Option("--out", help="The folder of tasks to write; it must not exist.")],
    tasks: TaskName = None,
    keep: Annotated[
        float | None,
        typer.Option(help="The share of rows to keep, above 0 to 1.", show_default="all that no score flags"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write a collection with the best rows of a task's pool; what is left out is in dropped.jsonl, each with why."""
    from udr_training.pool.curation import choose, write_curated
    from udr_training.pool.scores import read_scores

    folder = one_task(tasks_folder, tasks)
    refuse_existing(out)
    rows = folder.rows("train")
    choice = choose(rows, read_scores(scores, folder.task, rows), keep)
    written = write_curated(folder, choice, out)
    reasons = Counter(dropped.reason.partition(":")[0] for dropped in choice.dropped)
    if as_json:
        numbers = {"rows": len(rows), "kept": len(choice.kept), "dropped": len(choice.dropped)}
        print_json({"folder": str(written), **numbers, "reasons": dict(reasons)})
    else:
        why = ", ".join(f"{number} by {reason}" for reason, number in reasons.items())
        print_text(f"{written}: kept {len(choice.kept)} of {len(rows)} rows{f'; dropped {why}' if why else ''}")
