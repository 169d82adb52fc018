"""Arguments and progress display that the commands of this package share."""

import logging
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from udr.cli import STATUS, refuse_unused
from udr.errors import MissingExtraError

# Imported where they are used, so that `udr --help` stays light.
if TYPE_CHECKING:
    from udr_training.answering import Budget, ServerSettings
    from udr_training.feedback import Progress

TasksFolder = Annotated[Path, typer.Argument(help="The folder of tasks, <family>/<task>/.", metavar="TASKS")]
TaskNames = Annotated[str | None, typer.Option("--tasks", help="Task names, separated by commas.", show_default="all")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How a command asks the server of a language model, and for how much; see ``expand_options``."""

    lm_set: Annotated[
        list[str] | None,
        typer.Option(
            help="How a server is asked: key=VARIABLE (of its API key, in place of UDR_LM_KEY), concurrency, attempts, "
            "timeout, requests_per_minute, body.FIELD=JSON, header.NAME=VALUE (or $VARIABLE), query.NAME=VALUE; "
            "can be repeated."
        ),
    ] = None
    max_requests: Annotated[
        int | None, typer.Option(help="The most requests to a server, those of earlier calls included.")
    ] = None
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens-total", help="The most tokens of prompts and answers, likewise.")
    ] = None
    max_cost: Annotated[float | None, typer.Option(help="The most that answers may cost, in the unit of --prices.")] = (
        None
    )
    prices: Annotated[
        str | None,
        typer.Option(help="IN,OUT: the prices of a million tokens of prompts, and of answers, in any currency."),
    ] = None

    def budget(self, lm: str) -> "Budget":
        """Return what asking the model at an address may cost."""
        from udr_training.answering import Budget

        return Budget.read(lm, self.max_requests, self.max_tokens, self.max_cost, self.prices)

    def refuse(self, needed: str) -> None:
        """Raise ``ConfigError`` for what is given and would be ignored; see ``refuse_unused``."""
        cost = {"--max-requests": self.max_requests, "--max-tokens-total": self.max_tokens, "--max-cost": self.max_cost}
        refuse_unused({"--lm-set": self.lm_set, **cost, "--prices": self.prices}, needed)

    def settings(self) -> "ServerSettings":
        """Return how servers are asked."""
        from udr_training.answering import read_settings

        return read_settings(self.lm_set or ())


def show_progress(task: str, progress: "Progress") -> None:
    """Show a task's progress on stderr: continuously on a terminal, else now and then and at the end."""
    label = f"{task} ({progress.note})" if progress.note else task
    STATUS.progress(label, progress.done, progress.total, progress.seconds, progress.unit, progress.before)


def quiet() -> None:
    """Import the libraries, which takes seconds, and silence them; see ``silence_libraries``."""
    for package in ("datasets", "sentence_transformers", "transformers"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "training")
    STATUS.begin("loading the libraries...")
    silence_libraries()


def silence_libraries() -> None:
    """Show only warnings of the libraries, and none of their progress bars."""
    from datasets import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    for name in ("httpx2", "sentence_transformers", "datasets"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Writing a model card shows another progress bar.
    disable_progress_bars()
    # Transformers' types are too loose to check.
    bars: Any = transformers_logging
    bars.disable_progress_bar()
    bars.set_verbosity_error()


def torchrun_place() -> tuple[int, int]:
    """Return this process's number and the number of processes that torchrun has started; 0 and 1 without it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def processes_here(count: int) -> int:
    """Return how many of a command's processes this machine has: all, except of those that torchrun has started."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", count))
