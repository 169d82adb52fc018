"""The commands ``udr feedback score``, ``import``, ``export``, ``weigh`` and ``stats``."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from udr.cli import (
    command_group,
    expand_options,
    help_groups,
    names_of,
    naming_flags,
    print_json,
    print_text,
    refuse_unused,
)
from udr.errors import ConfigError, naming
from udr.models import DEFAULT_LM, RunnerOptions
from udr_training.config import (
    ServerOptions,
    TaskNames,
    TasksFolder,
    quiet,
    show_progress,
)

app = command_group("Score demonstrations with a language model.")

_Run = Annotated[Path, typer.Argument(help="The directory of `udr feedback score` or `udr train`.", metavar="RUN")]


@app.command()
@expand_options
@help_groups(
    {
        "Tasks and output": "out tasks feedback",
        "Language model": "lm device dtype pack_tokens",
        "Candidates and scores": "kind pool queries candidates random_share context seed settings",
        "If the language model is a server": "lm_set max_requests max_tokens max_cost prices",
        "Several machines": "runner workers gpus_per_worker ray_address",
    }
)
def score(
    tasks_folder: TasksFolder,
    out: Annotated[Path, typer.Option("--out", help="The run directory; an interrupted run resumes.")],
    tasks: TaskNames = None,
    lm: Annotated[
        str,
        typer.Option(
            "--lm",
            help="The feedback LM: hub name, path, package:NAME, or the address of a server, "
            "http://HOST/v1?model=NAME (completions) or http://HOST/v1?model=NAME&api=chat.",
        ),
    ] = DEFAULT_LM,
    kind: Annotated[
        str,
        typer.Option(
            help="Where scores come from: likelihood (of options), completions-echo, chat-logprobs, metric or rank."
        ),
    ] = "likelihood",
    dtype: Annotated[
        str | None,
        typer.Option(
            help="The precision of the language model's weights: float32, bfloat16, float16.", show_default="float32"
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="The language model's device: cpu, cuda.", show_default="cpu")
    ] = None,
    pool: Annotated[int, typer.Option(help="Rows per pool, sampled by seed; 0 for all.")] = 0,
    queries: Annotated[int, typer.Option(help="Training queries per task, sampled by seed; 0 for all.")] = 0,
    candidates: Annotated[int, typer.Option(help="Candidates per query, proposed by BM25.")] = 50,
    random_share: Annotated[float, typer.Option(help="The share of candidates drawn at random instead, 0 to 1.")] = 0.0,
    context: Annotated[int, typer.Option(help="Demonstrations shown before the scored one.")] = 0,
    pack_tokens: Annotated[int, typer.Option(help="Tokens per pack; 0 uses the best value for the device.")] = 0,
    seed: Annotated[int, typer.Option(help="The seed of all random choices.")] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting of feedback, such as feedback.samples=4; can be repeated."),
    ] = None,
    server: ServerOptions = ServerOptions(),  # noqa: B008
    feedback: Annotated[
        Path | None,
        typer.Option(help="A shared file of scores to read and extend.", show_default="OUT/feedback.sqlite"),
    ] = None,
    runner: RunnerOptions = RunnerOptions(),  # noqa: B008
) -> None:
    """Score the training queries' candidates, and print the run directory."""
    from udr.data import open_collection
    from udr.files import remote_url
    from udr_training.answering import is_remote
    from udr_training.config import ScoringConfig, setting_flags, settings_of, with_settings
    from udr_training.feedback.checks import check_run, check_runner
    from udr_training.run_folder import upload_copy, working_copy

    names, place, out = names_of(tasks), out, working_copy(out)
    options: dict[str, object] = {
        "seed": seed,
        "candidates.pool": pool,
        "candidates.queries": queries,
        "candidates.num_candidates": candidates,
        "candidates.random_share": random_share,
        "feedback.lm": lm,
        "feedback.dtype": dtype,
        "feedback.device": device,
        "feedback.context": context,
        "feedback.pack_tokens": pack_tokens,
        "feedback.kind": kind,
        "feedback.lm_set": server.lm_set,
    }
    given = {name: value for name, value in options.items() if value is not None}
    with naming_flags(setting_flags()):
        requested = with_settings(ScoringConfig(), given | settings_of(settings or []))
        asked = requested.feedback
        if asked.is_told:
            raise ConfigError(f"feedback.kind {asked.kind!r} asks no language model; use udr feedback import")
        if is_remote(asked.lm):
            refuse_unused({"--device": device, "--dtype": dtype}, "a language model in this process")
        asked.check_context(asked.context)
        if requested.candidates.later != "same":
            raise ConfigError(
                f"candidates.later={requested.candidates.later} is for the later iterations of udr train; omit it"
            )
        check_runner(runner, asked)
        budget = server.budget(asked.lm)
        collection = open_collection(tasks_folder, names)
        config = replace(requested, tasks=tuple(collection.tasks))
        check_run(out, collection, config, feedback)

    # After the checks above, since these imports take seconds.
    quiet()
    from udr_training.feedback.run import FeedbackRun

    with naming(out):
        run = FeedbackRun(
            out, collection, config, feedback=feedback, on_progress=show_progress, budget=budget, runner=runner
        )
        run.finish()
        upload_copy(out)
    print_text(remote_url(place) or str(out))


@app.command("import")
def import_(
    outcomes: Annotated[Path, typer.Argument(help="The file of `udr index outcomes`.", metavar="OUTCOMES")],
    tasks_folder: TasksFolder,
    out: Annotated[Path, typer.Option("--out", help="The JSONL file, which must not exist.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score the demonstrations of real prompts by the prompts' outcomes, to train with: udr train --kind outcomes.

    Needs the inputs that udr serve --usage inputs keeps, and the tasks with the rows that were shown.
    """
    from udr.data import open_collection
    from udr_training.candidates import import_outcomes

    imported, others = import_outcomes(outcomes, open_collection(tasks_folder), out)
    if as_json:
        print_json({"tasks": {name: asdict(task) for name, task in imported.items()}, "of_other_tasks": others})
        return
    for name, task in imported.items():
        print_text(f"{name}: outcomes: {task.outcomes}, queries: {task.queries}, mean score: {task.mean:.2f}")
        if task.left_out:
            print_text(f"  left out: {task.left_out}")
    if others:
        print_text(f"left out: outcomes of other tasks ({others})")


@app.command()
def export(run: _Run) -> None:
    """Print a run's scored pairs, one JSON line each."""
    run = _check_run(run)
    quiet()
    from udr_training.feedback.export import exported

    for pair in exported(run):
        print_json(pair)


@app.command()
def weigh(
    run: _Run,
    index: Annotated[Path, typer.Argument(help="An index of the same tasks, with BM25.", metavar="DIR")],
    tasks: TaskNames = None,
    queries: Annotated[
        int,
        typer.Option(
            help="Ask the run's language model about so many rows of each pool, each with the demonstrations of every "
            "weight; 0 asks nothing, and uses the scores of held-out queries."
        ),
    ] = 0,
    shots: Annotated[int | None, typer.Option(help="The demonstrations that it is shown.", show_default="4")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Set how much the encoder counts in an index's hybrid searches, by task.

    Name the run that trained the encoder of the index, or the scores may be of queries that it has learned from.

    The index keeps the weights in its search settings; a request's own weight overrides them. A service reads them when
    it loads the index. What --queries asked is kept in the run's scores; those of a run at a URL are uploaded.
    """
    run = _check_run(run)
    if not queries:
        refuse_unused({"--shots": shots}, "--queries")
    quiet()
    from udr_training.feedback.weighing import SetQuestion
    from udr_training.feedback.weighing import weigh as run_weigh
    from udr_training.run_folder import upload_copy

    question = None
    if queries:
        with naming_flags({"^": "--"}):
            question = SetQuestion(queries, 4 if shots is None else shots, show_progress)
    with naming(index):
        results = run_weigh(run, index, question, names_of(tasks))
    if as_json:
        print_json({"tasks": [asdict(result) for result in results]})
    else:
        print_text("\n".join(map(str, results)))
    if queries:
        with naming(run):
            upload_copy(run)


@app.command()
def stats(run: _Run, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Print the cost of all scores in a run's file, which runs can share: pairs, tokens, seconds, bytes."""
    from udr_training.feedback.export import statistics

    numbers = statistics(_check_run(run))
    print_text(json.dumps(numbers) if as_json else "\n".join(f"{name}: {value}" for name, value in numbers.items()))


def _check_run(run: Path) -> Path:
    """Return a run's directory here; raise an ArtifactError if it holds no run, before slow imports."""
    from udr_training.run_folder import RunFolder, working_copy

    run = working_copy(run)
    _ = RunFolder(run).sources
    return run
