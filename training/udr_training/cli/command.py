"""The command ``udr train``: its options, and the run that it starts."""

from contextlib import nullcontext
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Annotated

import typer

from udr.cli import STATUS, expand_options, help_groups, names_of, naming_flags, print_text, refuse_unused
from udr.errors import ConfigError, naming
from udr.models import RunnerOptions
from udr_training.config import (
    PRESETS,
    ServerOptions,
    TaskNames,
    TasksFolder,
    quiet,
    show_progress,
)

_SETTINGS = {
    "seed": "seed",
    "lm": "feedback.lm",
    "device": "feedback.device",
    "dtype": "feedback.dtype",
    "context": "feedback.context",
    "kind": "feedback.kind",
    "pool": "candidates.pool",
    "queries": "candidates.queries",
    "candidates": "candidates.num_candidates",
    "random_share": "candidates.random_share",
    "shared": "candidates.shared",
    "later": "candidates.later",
    "model": "train.model",
    "iterations": "train.iterations",
    "epochs": "train.epochs",
    "batch_size": "train.batch_size",
    "learning_rate": "train.learning_rate",
    "train_dtype": "train.dtype",
    "ranking_weight": "train.ranking_weight",
    "loss": "train.loss",
    "towers": "train.towers",
    "label_aware": "train.label_aware",
    "extrapolate": "train.extrapolate",
    "centre_scores": "train.centre_scores",
}
"""The settings that options replace; the preset has their defaults."""

_PRESET = "cpu"


def _defaults() -> dict[str, str]:
    """Return the values of the default preset, by the name of the option that replaces each."""
    from udr_training.config import load_config

    config = load_config(_PRESET, {})
    values = {option: reduce(getattr, setting.split("."), config) for option, setting in _SETTINGS.items()}
    worded = {True: "yes", False: "no"}
    return {
        option: f"{worded[value] if isinstance(value, bool) else value} in preset {_PRESET}"
        for option, value in values.items()
    }


@expand_options
@help_groups(
    {
        "Tasks and output": "out tasks test_rows dry_run as_json",
        "Models": "lm device dtype model train_dtype",
        "Settings": "preset config settings seed",
        "Candidates and feedback": (
            "pool queries candidates random_share shared later kind context feedback runner workers gpus_per_worker "
            "ray_address"
        ),
        "If the language model is a server": "lm_set max_requests max_tokens max_cost prices",
        "Training": (
            "iterations epochs batch_size learning_rate loss ranking_weight towers label_aware centre_scores "
            "extrapolate processes"
        ),
    },
    _defaults,
)
def train(
    tasks_folder: TasksFolder,
    out: Annotated[Path, typer.Option("--out", help="The run directory; an interrupted run resumes.")],
    tasks: TaskNames = None,
    preset: Annotated[
        str, typer.Option(help=f"The base settings: {'; '.join(f'{name}, {what}' for name, what in PRESETS.items())}.")
    ] = _PRESET,
    config: Annotated[Path | None, typer.Option(help="A TOML file; its values replace the preset's.")] = None,
    lm: Annotated[
        str | None,
        typer.Option("--lm", help="The feedback LM: a hub name, a path, package:NAME, or a server's address."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="The encoder to train: a hub name, a path, package:NAME.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="The language model's device: cpu, cuda.")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="The precision of the language model's weights: float32, bfloat16, float16.")
    ] = None,
    context: Annotated[int | None, typer.Option(help="Demonstrations shown before the scored one.")] = None,
    pool: Annotated[int | None, typer.Option(help="Rows per pool, sampled by seed; 0 for all.")] = None,
    queries: Annotated[int | None, typer.Option(help="Training queries per task, sampled by seed; 0 for all.")] = None,
    candidates: Annotated[int | None, typer.Option(help="Candidates per query and iteration.")] = None,
    random_share: Annotated[float | None, typer.Option(help="The share of candidates drawn at random, 0 to 1.")] = None,
    shared: Annotated[
        int | None,
        typer.Option(help="Demonstrations of a task from which random candidates and context are drawn; 0: all."),
    ] = None,
    later: Annotated[
        str | None,
        typer.Option(
            help="What later iterations ask: the same queries, new ones, or new ones allocated to tasks by what labels "
            "leave unexplained: same, new or allocated."
        ),
    ] = None,
    iterations: Annotated[int | None, typer.Option(help="Mining iterations, one training each.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Visits to each query per training.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Queries per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The peak learning rate of the schedule.")] = None,
    loss: Annotated[str | None, typer.Option(help="The loss: udr, lambda, kl, margin_mse, epr or mnrl.")] = None,
    label_aware: Annotated[
        bool | None,
        typer.Option("--label-aware/--no-label-aware", help="No candidate with the best one's label is a negative."),
    ] = None,
    extrapolate: Annotated[
        str | None,
        typer.Option(
            help="Rows without scores become queries, by labels or a reward model, where these explain the order: "
            "off, labels or reward."
        ),
    ] = None,
    centre_scores: Annotated[
        bool | None,
        typer.Option(
            "--centre-scores/--no-centre-scores",
            help="Subtract from the scores what a demonstration is worth to any query.",
        ),
    ] = None,
    train_dtype: Annotated[str | None, typer.Option(help="The precision of training: float32, bfloat16.")] = None,
    ranking_weight: Annotated[float | None, typer.Option(help="λ, the weight of the ranking loss, 0 to 1.")] = None,
    towers: Annotated[
        int | None, typer.Option(help="1: one encoder for both sides; 2: one for queries, one for demonstrations.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The seed of all random choices.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting of the file, such as train.lora_rank=8; can be repeated."),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="Where scores come from: likelihood, completions-echo, chat-logprobs, metric, rank or outcomes."
        ),
    ] = None,
    server: ServerOptions = ServerOptions(),  # noqa: B008
    feedback: Annotated[
        Path | None,
        typer.Option(
            help="A shared file of scores to read and extend; with --kind outcomes, that of `udr feedback import`.",
            show_default="OUT/feedback.sqlite",
        ),
    ] = None,
    test_rows: Annotated[
        int, typer.Option("--test-rows", help="Test rows per task for the final evaluation; 0 skips it.", min=0)
    ] = 150,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Measure what the run would cost, and write nothing.")
    ] = False,
    processes: Annotated[
        int,
        typer.Option(
            help="Processes that share each training, scoring, mining and the evaluation, one per GPU, or else sharing "
            "this machine's cores.",
            min=1,
        ),
    ] = 1,
    runner: RunnerOptions = RunnerOptions(),  # noqa: B008
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan of --dry-run as JSON.")] = False,
) -> None:
    """Train one encoder on many tasks from a language model's feedback, and evaluate it."""
    given = dict(locals())
    from udr.data import Kind, open_collection
    from udr.files import remote_url
    from udr_training.answering import Budget, is_remote
    from udr_training.cli.before_training import check_test_rows, foretell
    from udr_training.config import Stages, load_config, processes_here, setting_flags, settings_of, torchrun_place
    from udr_training.feedback import check_run, check_runner, loads_lm
    from udr_training.run_folder import upload_copy, working_copy

    number, started = torchrun_place()
    if number > 0:
        # A dry run has no training that it could take part in.
        if not dry_run:
            from udr_training.trainer import follow

            follow()
        return
    if started > 1:
        if processes > 1:
            raise ConfigError(f"torchrun has started {started} processes; omit --processes")
        processes = started
    if started > 1 and remote_url(out) is not None:
        raise ConfigError(f"{out}: processes of torchrun need a run directory on a disk that they share; give its path")
    place, out = out, working_copy(out)
    overrides: dict[str, object] = {setting: given[option] for option, setting in _SETTINGS.items()}
    overrides |= {"tasks": names_of(tasks), "feedback.lm_set": server.lm_set}
    if not dry_run:
        refuse_unused({"--json": as_json}, "--dry-run")
    with naming_flags(setting_flags()):
        overrides |= settings_of(settings or [])
        requested = load_config(preset, overrides, config)
        collection = open_collection(tasks_folder, requested.tasks or None)
        resolved = replace(requested, tasks=tuple(collection.tasks))
        resolved.feedback.check_context(overrides.get("feedback.context"))
        budget = server.budget(resolved.feedback.lm)
        if resolved.feedback.is_told and budget != Budget():
            raise ConfigError("feedback.kind 'outcomes' asks no server; omit the budget and its prices")
        if is_remote(resolved.feedback.lm):
            refuse_unused({"--device": device, "--dtype": dtype}, "a language model in this process")
        split = RunnerOptions(workers=processes_here(processes)) if runner == RunnerOptions() else runner
        scoring = split if loads_lm(resolved.feedback) else runner
        check_runner(scoring, resolved.feedback)
        if dry_run and not runner.is_local:
            raise ConfigError(f"--dry-run measures the models in this process; omit {runner.named}")
        if dry_run and budget != Budget():
            raise ConfigError(
                "--dry-run keeps no answer that a budget could count, and asks a server about some pairs of each task; "
                "omit the budget and its prices, or try udr feedback score --max-requests N, which keeps what it asks"
            )
        check_run(out, collection, resolved, feedback)

    if test_rows:
        foretell(collection, resolved, test_rows, out)

    # After the checks above, since these imports take seconds.
    quiet()
    if test_rows:
        check_test_rows(collection, resolved, test_rows)
    if dry_run:
        from udr_training.cli.before_training import print_plan

        print_plan(tasks_folder, out, collection, resolved, feedback, processes, test_rows, as_json=as_json)
        return

    from udr_training.evaluation import FOLDER, TaskResult, evaluation_command, prove, verdict
    from udr_training.evaluation.report import points, table
    from udr_training.runs import Run
    from udr_training.trainer import leading, write_card

    with naming(out):
        after = ("evaluation",) if test_rows else ()
        run = Run(
            out,
            collection,
            resolved,
            feedback=feedback,
            on_progress=show_progress,
            later=after,
            budget=budget,
            runner=scoring,
            processes=processes,
        )

    def show(result: TaskResult) -> None:
        STATUS.notice(f"{result.task}, {result.retriever}: {points(result.estimate.value)}")

    with naming(out):
        with leading() if started > 1 else nullcontext():
            trained = run.finish()
        upload_copy(out)
        if test_rows:
            STATUS.begin(f"{Stages(resolved, after).title('evaluation')}...")
        evaluation = prove(out, collection, resolved, test_rows, show, show_progress, split) if test_rows else None
        if evaluation is not None:
            results = f"{table(evaluation)}\n\n{verdict(evaluation).text}"
            write_card(trained, collection, resolved, results)
            STATUS.notice(f"the report is {remote_url(place) or place}/{FOLDER}/report.html\n\n{results}")
            if any(folder.task.kind is Kind.CLASSIFICATION for folder in collection.tasks.values()):
                compare = evaluation_command(collection, resolved, ("INDEX", "NEW-INDEX"))
                STATUS.notice(
                    "\nAn index of tasks with labels may rank by label heads too, which this leaves out. To compare "
                    f"what you would serve, build an index with each encoder, then: {compare}"
                )
            upload_copy(out)
    print_text(str(trained) if (url := remote_url(place)) is None else f"{url}/{trained.name}")
