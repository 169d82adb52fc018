"""Arguments and progress display that the commands of this package share."""

import logging
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from udr_training.feedback import Progress

TasksFolder = Annotated[Path, typer.Argument(help="The folder of tasks, <family>/<task>/.", metavar="TASKS")]
TaskNames = Annotated[str | None, typer.Option("--tasks", help="Task names, separated by commas; all by default.")]


def show_progress(task: str, progress: "Progress") -> None:
    """Write a task's progress to stderr: continuously on a terminal, else once at the end."""
    from tqdm import tqdm

    complete = progress.done == progress.total
    if complete or sys.stderr.isatty():
        bar = tqdm.format_meter(
            progress.done,
            progress.total,
            progress.seconds,
            ncols=shutil.get_terminal_size().columns,
            prefix=f"udr: {task}",
            unit=" pairs",
            postfix=f"{progress.tokens / max(progress.seconds, 1e-9):.0f} tokens/s",
        )
        typer.echo(f"\r{bar}" if sys.stderr.isatty() else bar, err=True, nl=complete)


def quiet() -> None:
    """Send the log to stderr, and turn off the libraries' progress bars."""
    from datasets import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    logging.basicConfig(level=logging.INFO, format="udr: %(message)s", stream=sys.stderr)
    for name in ("httpx2", "sentence_transformers", "datasets"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Writing a model card shows another progress bar.
    disable_progress_bars()
    # Transformers' types are too loose to check.
    bars: Any = transformers_logging
    bars.disable_progress_bar()
    bars.set_verbosity_error()
