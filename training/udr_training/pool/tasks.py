"""The task that a command works on, and the server that it asks."""

from pathlib import Path
from typing import Annotated

import typer

from udr.cli import names_of
from udr.data import TaskFolder, open_collection
from udr.errors import ConfigError
from udr_training.answering import is_remote, read_address

TaskName = Annotated[str | None, typer.Option("--tasks", help="The task; needed if the folder has several.")]
ServerAddress = Annotated[
    str,
    typer.Option("--lm", help="The server of the language model, http://HOST/v1?model=NAME&api=chat."),
]


def one_task(tasks_folder: Path, name: str | None) -> TaskFolder:
    """Return the named task of a collection, or its only one.

    Raises:
        ConfigError: the collection has several.
    """
    folders = list(open_collection(tasks_folder, names_of(name)).tasks.values())
    if len(folders) != 1:
        names = ", ".join(folder.task.name for folder in folders)
        raise ConfigError(f"--tasks: name one task; found {names}")
    return folders[0]


def check_server(lm: str) -> None:
    """Raise ``ConfigError`` if a language model is not a server's."""
    if not is_remote(lm):
        raise ConfigError(
            f"--lm must be the address of a server, http://HOST/v1?model=NAME&api=chat; found {lm!r}; "
            "llama-server of llama.cpp serves a local model"
        )
    read_address(lm)
