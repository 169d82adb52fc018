"""Arguments and progress display that the commands of this package share."""

import logging
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
    if not sys.stderr.isatty() and progress.done < progress.total:
        return
    seconds = max(progress.seconds, 1e-9)
    left = (progress.total - progress.done) * seconds / max(progress.done, 1)
    share = progress.done / max(progress.total, 1)
    bar = "#" * round(20 * share)
    typer.echo(
        f"udr: {task} [{bar:<20}] {progress.done}/{progress.total} pairs, {progress.done / seconds:.1f} pairs/s, "
        f"{progress.tokens / seconds:.0f} tokens/s, {left:.0f} s left  {'' if share < 1 else chr(10)}",
        err=True,
        nl=False,
    )
    if share < 1:
        typer.echo("\r", err=True, nl=False)


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
