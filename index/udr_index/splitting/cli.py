"""The command ``udr tasks split``."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from udr.cli import names_of, print_text, refuse_unused


def split(
    tasks_folder: Annotated[Path, typer.Argument(help="The folder of tasks, <family>/<task>/.", metavar="TASKS")],
    tasks: Annotated[
        str | None, typer.Option(help="Tasks, separated by commas; all without test rows by default.")
    ] = None,
    test_rows: Annotated[
        int | None,
        typer.Option(
            help="Rows to hold out of each task; of a task in --tasks that has test rows, so many in all.",
            show_default="a fifth, at most 500",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The seed that selects them.")] = 0,
    model: Annotated[
        str | None, typer.Option(help="Find near-duplicates with this encoder, too: a hub name, a path, package:NAME.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="The device for the encoder: cpu, cuda, ...", show_default="a GPU if there is one, else cpu"),
    ] = None,
) -> None:
    """Move some rows of train to test.jsonl: near-duplicates in one file, labels in the same proportion if that allows.

    If some of several tasks cannot be split, the exit status is 4.
    """
    if model is None:
        refuse_unused({"--device": device}, "--model, the encoder")
    # Imported here, so that `udr --help` stays light.
    from udr.data import ENOUGH_TEST_ROWS, few_test_rows, open_collection
    from udr.errors import ConfigError, PartialError, listed
    from udr.files import refuse_remote
    from udr_index.splitting.folders import split_folder
    from udr_index.splitting.holdout import NEARLY_REPEAT

    refuse_remote(tasks_folder)
    collection = open_collection(tasks_folder, names_of(tasks))
    chosen = [folder for folder in collection.tasks.values() if tasks is not None or not folder.files("test")]
    if not chosen:
        raise ConfigError(f"{tasks_folder}: every task has a test split already")
    near = None
    if model is not None:
        from functools import partial

        from udr.models import SentenceEncoder
        from udr_index.splitting.encoder_pairs import near_pairs

        near = partial(near_pairs, encoder=SentenceEncoder.load(model, device=device))
    failed = list[str]()
    for folder in chosen:
        try:
            done = split_folder(folder, test_rows, seed, near)
        except ConfigError as error:
            if len(chosen) == 1:
                raise
            print_text(f"{folder.task.name}: not split: {error}")
            failed.append(folder.task.name)
            continue
        holdout = done.holdout
        kept = f"; the file before is {done.kept.name}" if done.kept else ""
        near_copies = f"; {holdout.together} rows {NEARLY_REPEAT}" if holdout.together else ""
        print_text(f"{done.task}: {len(holdout.train)} rows train, {len(holdout.test)} test{near_copies}{kept}")
        if holdout.notice:
            print_text(f"{done.task}: {holdout.notice}")
        total = len(holdout.train) + len(holdout.test)
        command = f"udr tasks split {shlex.quote(str(tasks_folder))} --tasks {done.task} --test-rows {ENOUGH_TEST_ROWS}"
        remedy = command if total >= 2 * ENOUGH_TEST_ROWS else "that takes more rows than this task has"
        if few := few_test_rows(len(holdout.test), remedy):
            print_text(f"{done.task}: {few}")
        if done.before:
            print_text(f"{done.task}: build its index and train its runs anew, since these know rows that test now")
    if failed:
        raise PartialError(f"{len(failed)} of {len(chosen)} tasks are not split: {listed(failed, len(failed))}")
