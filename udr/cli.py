"""The command ``udr``. Its own commands use an index in process; other packages add theirs by entry point."""

import json
import logging
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated

import typer

from udr import __version__
from udr.errors import ConfigError, UdrError, VerificationError
from udr.prompt import Format
from udr.types import Fields, Json, Mode, Retrieval

GROUP = "udr.commands"
"""The entry-point group of commands: a Typer instance becomes a group of commands, a function one command."""

_EXIT_CODES: Mapping[type[UdrError], int] = {ConfigError: 2, VerificationError: 3}

_Index = Annotated[Path, typer.Argument(help="The index directory.", metavar="DIR", show_default=False)]
_Text = Annotated[
    str | None, typer.Argument(help="The query as plain text, where one field is enough.", metavar="[TEXT]")
]
_Input = Annotated[
    list[str] | None, typer.Option("--input", help="One field of the query; repeat for others.", metavar="FIELD=VALUE")
]
_K = Annotated[int, typer.Option("--k", help="How many demonstrations.")]
_ModeOption = Annotated[
    Mode, typer.Option("--mode", help="What ranks: the encoder, the words shared with the query, or both.")
]
_Device = Annotated[str | None, typer.Option(help="Where the encoder and the search run: cpu, cuda, ...")]
Fp16 = Annotated[bool, typer.Option("--fp16", help="Search a GPU's flat partitions in half the memory.")]
"""An option of every command that searches on a device."""
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 1 failure, 2 usage, 3 verification failed, 130 interrupted.

    Args:
        arguments: what follows ``udr`` on the command line; None takes the process's own.
    """
    _log_to_stderr()
    try:
        application()(args=arguments, prog_name="udr")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    except (UdrError, OSError) as error:
        if os.environ.get("UDR_DEBUG"):
            traceback.print_exc()
        typer.echo(f"udr: error: {_one_line(error)}", err=True)
        return next((code for kind, code in _EXIT_CODES.items() if isinstance(error, kind)), 1)
    return 0


def application() -> typer.Typer:
    """Return the command ``udr`` with every command that is installed."""
    app = command_group("Retrieve the demonstrations that help your language model most.")
    app.callback()(_options)
    app.command()(retrieve)
    app.command()(prompt)
    for entry in _commands():
        _add(app, entry)
    return app


def command_group(help: str) -> typer.Typer:
    """Return an empty group of commands with plain help and plain errors: the same everywhere, and light."""
    return typer.Typer(
        help=help,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


def retrieve(
    index: _Index,
    text: _Text = None,
    task: Annotated[str | None, typer.Option(help="Search this task.")] = None,
    family: Annotated[str | None, typer.Option(help="Search this family's tasks.")] = None,
    scope: Annotated[str | None, typer.Option(help="'all' searches every task.")] = None,
    k: _K = 8,
    input: _Input = None,
    exclude: Annotated[list[str] | None, typer.Option(help="An id to leave out; repeat for others.")] = None,
    min_similarity: Annotated[float | None, typer.Option(help="Leave out what is less similar.")] = None,
    mode: _ModeOption = "dense",
    device: _Device = None,
    fp16: Fp16 = False,
    as_json: _AsJson = False,
) -> None:
    """Print the demonstrations nearest to a query."""
    query = _query(text, input)
    from udr.retriever import Retriever

    with Retriever.open(index, device=device, fp16=fp16) as retriever:
        retrieval = retriever.retrieve(
            task,
            query,
            k,
            family=family,
            scope=scope,
            exclude=tuple(exclude or ()),
            min_similarity=min_similarity,
            mode=mode,
        )
    if as_json:
        print_json(retrieval.to_json())
    else:
        print_text(_listing(retrieval))


def prompt(
    index: _Index,
    task: Annotated[str, typer.Option(help="The task to build a prompt for.", show_default=False)],
    budget: Annotated[int, typer.Option(help="Tokens of prompt and answer together.", show_default=False)],
    text: _Text = None,
    k: _K = 8,
    reserve: Annotated[int, typer.Option(help="Tokens of the budget kept for the answer.")] = 0,
    tokenizer: Annotated[
        str | None, typer.Option(help="Counts the tokens: a hub name, a path, package:NAME; else the encoder's.")
    ] = None,
    format: Annotated[Format, typer.Option(help="One text, or chat messages.")] = Format.TEXT,
    input: _Input = None,
    mode: _ModeOption = "dense",
    device: _Device = None,
    as_json: _AsJson = False,
) -> None:
    """Print a prompt: as many of the nearest demonstrations as fit the token budget, and the query."""
    query = _query(text, input)
    from udr.prompt import PromptBuilder
    from udr.retriever import Retriever
    from udr.tokenizer import load_tokenizer

    with Retriever.open(index, device=device) as retriever:
        builder = PromptBuilder(load_tokenizer(tokenizer or retriever.tokenizer), budget, reserve)
        retrieval = retriever.retrieve(task, query, k, mode=mode)
        built = builder.build(retriever.tasks[task], query, retrieval, format)
    if as_json:
        print_json({**built.to_json(), "index_version": retrieval.index_version, "model": retrieval.model})
    elif built.text is not None:
        print_text(built.text)
    else:
        print_json(built.to_json()["messages"])


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"udr {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Take what stands before the command's name."""


def _commands() -> list[EntryPoint]:
    return sorted(entry_points(group=GROUP), key=lambda entry: entry.name)


def _add(app: typer.Typer, entry: EntryPoint) -> None:
    """Add a command of another package; where that cannot be imported, one that says so when it is run."""
    try:
        command = entry.load()
    except ImportError as error:
        failure = ConfigError(f"the command {entry.name!r} cannot be loaded from {entry.value}: {error}")
        failure.__cause__ = error

        def unavailable() -> None:
            raise failure

        anything = {"allow_extra_args": True, "ignore_unknown_options": True}
        app.command(entry.name, help=f"(cannot be loaded: {error})", context_settings=anything)(unavailable)
        return
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=entry.name)
    else:
        app.command(entry.name)(command)


def _log_to_stderr() -> None:
    """Show our own packages' logs from INFO on, others' from WARNING on, and progress bars on a terminal only."""
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.basicConfig(level=logging.WARNING, format="udr: %(message)s", stream=sys.stderr)
    for package in {"udr", *(entry.module.partition(".")[0] for entry in _commands())}:
        logging.getLogger(package).setLevel(logging.INFO)


def _query(text: str | None, fields: Sequence[str] | None) -> Fields | str:
    if (text is None) == (not fields):
        found = "neither" if text is None else "both"
        raise ConfigError(f"give the query either as TEXT or as --input FIELD=VALUE; found {found}")
    if text is not None:
        return text
    query: dict[str, str] = {}
    for field in fields or ():
        name, sign, value = field.partition("=")
        if not sign or not name:
            raise ConfigError(f"--input must be FIELD=VALUE, found {field!r}")
        if name in query:
            raise ConfigError(f"--input gives the field {name!r} twice")
        query[name] = value
    return query


def _listing(retrieval: Retrieval) -> str:
    return "\n".join(
        f"{found.rank:>3}  {found.similarity:.5f}  {found.task}  {found.id}\n     "
        + found.text.replace("\n", "\n     ")
        for found in retrieval
    )


def print_text(text: str) -> None:
    """Print a result, in UTF-8 whatever the terminal's encoding is; what is none, as in a file's name, is escaped."""
    typer.echo(text.encode(errors="backslashreplace"))


def print_json(value: Json) -> None:
    """Print a result as JSON on one line."""
    print_text(json.dumps(value, ensure_ascii=False))


def names_of(listed: str | None) -> tuple[str, ...] | None:
    """Return the names in a list that commas separate; None where none was given.

    Raises:
        ConfigError: the list holds no name.
    """
    if listed is None:
        return None
    names = tuple(name.strip() for name in listed.split(",") if name.strip())
    if not names:
        raise ConfigError(f"a list of names, separated by commas, was expected; found {listed!r}")
    return names


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split("\n")) or type(error).__name__
