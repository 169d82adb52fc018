"""What the commands of this package share: arguments, and how progress is shown."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from udr_training.feedback import Progress

TasksFolder = Annotated[Path, typer.Argument(help="A collection: <family>/<task>/task.toml and rows.", metavar="TASKS")]
TaskNames = Annotated[str | None, typer.Option("--tasks", help="Tasks to take, separated by commas; all by default.")]


def show_progress(task: str, progress: "Progress") -> None:
    """Write a task's progress to stderr: on a terminal as it goes, elsewhere when it is done."""
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
    """Send our log to stderr, and keep the libraries' progress bars out of it."""
    from datasets import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    logging.basicConfig(level=logging.INFO, format="udr: %(message)s", stream=sys.stderr)
    for name in ("httpx2", "sentence_transformers", "datasets"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # A model card's examples are drawn with a progress bar of their own.
    disable_progress_bars()
    # Transformers types its logging too loosely to be checked.
    bars: Any = transformers_logging
    bars.disable_progress_bar()
    bars.set_verbosity_error()
