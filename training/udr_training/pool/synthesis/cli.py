"""The command ``udr pool synthesise``.

``--json`` prints ``folder``, ``method``, ``questions``, ``solved``, ``paths``, ``correct_paths``, ``generated_tokens``,
``cut`` and ``bare`` (solutions: too long, or an answer without a step), ``spent`` and the limits. ``synthesis.json``
has the same.
"""

import time
from pathlib import Path
from typing import Annotated

import typer

from udr.cli import STATUS, expand_options, help_groups, print_json, print_text
from udr.errors import ConfigError, DataError
from udr.files import refuse_existing
from udr.types import Json
from udr_training.config import ServerOptions, TasksFolder, show_progress
from udr_training.pool.tasks import ServerAddress, TaskName, answers_file, check_server, one_task


@expand_options
@help_groups(
    {
        "Tasks and output": "out tasks limit seed as_json",
        "Solutions": "method paths tries batch shots solution_tokens",
        "Server": "lm lm_set max_requests max_tokens max_cost prices",
    }
)
def synthesise(
    tasks_folder: TasksFolder,
    lm: ServerAddress,
    out: Annotated[Path, typer.Option("--out", help="The folder of tasks to write; it must not exist.")],
    *,
    tasks: TaskName = None,
    limit: Annotated[
        int | None, typer.Option(help="Questions to solve, sampled by seed.", min=1, show_default="all")
    ] = None,
    seed: Annotated[int, typer.Option(help="The seed of that sample.", min=0)] = 0,
    method: Annotated[str, typer.Option(help="How solutions are sought: tree, or rejection (sampling).")] = "tree",
    paths: Annotated[int, typer.Option(help="Stop with a question after this many different right solutions.")] = 4,
    tries: Annotated[
        int, typer.Option(help="Solutions drawn per question, on average; what easy ones leave goes to hard ones.")
    ] = 16,
    batch: Annotated[int, typer.Option(help="Solutions drawn at once from the same step.")] = 4,
    shots: Annotated[int, typer.Option(help="Worked rows of the pool that prompts show.", min=0)] = 2,
    solution_tokens: Annotated[int, typer.Option(help="The longest solution, in tokens.", min=1)] = 512,
    server: ServerOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Work out solutions of rows that have only an answer, which checks them; write a collection of the solved rows."""
    # Imported here, so that `udr --help` stays light.
    from udr.data import sample
    from udr_training.answering import PaidAnswers, ServerLM
    from udr_training.feedback import Progress
    from udr_training.pool.synthesis.search import METHODS, Limits, grow
    from udr_training.pool.synthesis.solving import Solver, check_task, is_worked
    from udr_training.pool.synthesis.tree import Tree
    from udr_training.pool.synthesis.writing import check_metadata, summary, write_solved

    limits = Limits(enough=paths, tries=tries, batch=batch)
    if method not in METHODS:
        raise ConfigError(f"--method must be one of {', '.join(METHODS)}; found {method!r}")
    check_server(lm)
    budget, settings = server.budget(lm), server.settings()
    folder = one_task(tasks_folder, tasks)
    task = folder.task
    check_task(task)
    refuse_existing(out)
    rows = folder.rows("train")
    worked = [row for row in rows if is_worked(task, row)]
    unworked = [row for row in rows if not is_worked(task, row)]
    if not unworked:
        raise DataError(f"every row of task {task.name!r} has a worked solution; there is nothing to do")
    questions = sample(unworked, limit, seed)
    check_metadata(folder, questions)
    if len(questions) < len(unworked):
        STATUS.notice(f"{len(unworked) - len(questions)} rows without a solution are left out (--limit)")
    trees, started = [Tree() for _ in questions], time.monotonic()
    with PaidAnswers(answers_file(out)) as paid:
        model = ServerLM(lm, settings, budget, paid)

        def on_done(done: int) -> None:
            seconds, total = time.monotonic() - started, tries * len(questions)
            show_progress(task.name, Progress(done, total, 0, seconds, unit="solutions", note=model.spent))

        examples = sample(worked, shots, seed) if shots else []
        solver = Solver(task, questions, examples, model, solution_tokens, on_done)
        grow(trees, solver.draw, limits, METHODS[method])
        spent = model.spent
    STATUS.finish()
    counts = summary(trees)
    report: dict[str, Json] = {
        "task": task.name,
        "lm": model.name,
        "method": method,
        **counts,
        "cut": solver.cut,
        "bare": solver.bare,
        "worked_before": len(worked),
        "spent": spent,
        "limits": {"paths": paths, "tries": tries, "batch": batch, "solution_tokens": solution_tokens},
    }
    if solver.bare:
        STATUS.notice(f"{solver.bare} of {counts['paths']} solutions are an answer without a step, and count as wrong")
    if solver.cut:
        message = (
            f"{solver.cut} of {counts['paths']} solutions were cut at --solution-tokens {solution_tokens}; raise it"
        )
        STATUS.notice(f"{message}: a model that thinks first needs 2000 or more")
    written = write_solved(folder, worked, questions, trees, report, out)
    if as_json:
        print_json({"folder": str(written), **report})
    else:
        print_text(
            f"{written}: solved {counts['solved']} of {len(questions)} questions; {counts['correct_paths']} right "
            f"solutions of {counts['paths']}, {counts['generated_tokens']:,} tokens generated; spent in all: {spent}"
        )
