"""The task that a command works on, and the server that it asks."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from udr.cli import names_of
from udr.errors import ConfigError
from udr_training.config import show_progress

# Imported where they are used, so that `udr --help` stays light.
if TYPE_CHECKING:
    from udr.data import TaskFolder
    from udr_training.answering import ServerLM

TaskName = Annotated[str | None, typer.Option("--tasks", help="The task; needed if the folder has several.")]
ServerAddress = Annotated[
    str,
    typer.Option("--lm", help="The server of the language model, http://HOST/v1?model=NAME&api=chat."),
]


def one_task(tasks_folder: Path, name: str | None) -> "TaskFolder":
    """Return the named task of a collection, or its only one.

    Raises:
        ConfigError: the collection has several.
    """
    from udr.data import open_collection

    folders = list(open_collection(tasks_folder, names_of(name)).tasks.values())
    if len(folders) != 1:
        names = ", ".join(folder.task.name for folder in folders)
        raise ConfigError(f"--tasks: name one task; found {names}")
    return folders[0]


def check_server(lm: str) -> None:
    """Raise ``ConfigError`` if a language model is not a server's."""
    from udr_training.answering import is_remote, read_address

    if not is_remote(lm):
        raise ConfigError(
            f"--lm must be the address of a server, http://HOST/v1?model=NAME&api=chat; found {lm!r}; "
            "llama-server of llama.cpp serves a local model"
        )
    read_address(lm)


def answers_file(out: Path) -> Path:
    """Return the file of the answers that a command's result is made of."""
    return out.with_name(f"{out.stem}-answers.sqlite")


def text_asker(lm: "ServerLM", label: str, max_tokens: int = 16) -> Callable[[Sequence[str]], list[str]]:
    """Return a function that asks a server's model for its answers to texts, and shows progress."""
    from udr.models import Message
    from udr_training.answering import Api, Question
    from udr_training.feedback import Progress

    def ask(texts: Sequence[str]) -> list[str]:
        started = time.monotonic()

        def on_done(done: int) -> None:
            seconds = time.monotonic() - started
            show_progress(label, Progress(done, len(texts), 0, seconds, unit="answers", note=lm.spent))

        chat = lm.api is Api.CHAT
        questions = [
            Question((Message(role="user", content=text),) if chat else f"{text}\n\nAnswer:", max_tokens)
            for text in texts
        ]
        return [reply.text for reply in lm.ask(questions, on_done)]

    return ask
