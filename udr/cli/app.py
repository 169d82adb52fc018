"""The command ``udr``: its own commands, and those that other packages add by entry point."""

import atexit
import gc
import logging
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from tempfile import NamedTemporaryFile
from typing import Annotated

import typer

from udr import __version__
from udr.cli.console import command_group, print_text
from udr.cli.doctor import doctor
from udr.cli.help import Group
from udr.cli.retrieve import prompt, retrieve
from udr.cli.status import STATUS
from udr.errors import ConfigError, MissingExtraError, PartialError, UdrError, VerificationError, reason, system_error

GROUP = "udr.commands"
"""The entry-point group of commands: a Typer instance becomes a group of commands, a function one command."""

DEBUG = "--debug"
"""The option that shows where an error arose; the environment variable ``UDR_DEBUG`` does, too."""

_EXIT_CODES: Mapping[type[UdrError], int] = {ConfigError: 2, VerificationError: 3, PartialError: 4}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (after ``udr``; None is the process's own) and return its exit status.

    It is 0, 1 failure, 2 usage, 3 verification failed, 4 parts of the work failed, or 130 interrupted.
    """
    _open_closed_streams()
    _log_to_stderr()
    # Else the interpreter ends with a search for garbage among all that torch has made, which takes two seconds.
    atexit.register(gc.freeze)
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Wherever it stands: people add it to a command that has just failed.
    options = given[: given.index("--")] if "--" in given else given
    debug = DEBUG in options or bool(os.environ.get("UDR_DEBUG"))
    try:
        application(_command(options))(
            args=[item for item in options if item != DEBUG] + given[len(options) :], prog_name="udr"
        )
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else 0
    except KeyboardInterrupt:
        return 130
    except Exception as raised:
        error = _missing_extra(raised, options) or raised
        STATUS.finish()
        if debug:
            traceback.print_exc()
        STATUS.notice(f"error: {_one_line(error, debug)}")
        _drop_unwritten()
        return next((code for kind, code in _EXIT_CODES.items() if isinstance(error, kind)), 1)
    finally:
        STATUS.finish()
    return 0


def _missing_extra(error: BaseException, arguments: Sequence[str]) -> MissingExtraError | None:
    """Return the extra of the command that was run, if the error is that another library is not installed."""
    if not isinstance(error, ModuleNotFoundError) or isinstance(error, UdrError) or not error.name:
        return None
    library, command = error.name.partition(".")[0], _command(arguments)
    if library in _packages():
        return None
    package = next((_package(entry) for entry in _commands() if entry.name == command), "")
    # Each package of commands has the extra of its name: udr_training has training.
    return MissingExtraError(f"{library}, which udr {command} needs,", package.removeprefix("udr_") or "index")


def _one_line(error: Exception, debug: bool) -> str:
    """Return the message of an error; of an unexpected one, with the place of its full report."""
    if isinstance(error, UdrError):
        return " ".join(str(error).split("\n")) or type(error).__name__
    if isinstance(error, OSError):
        return system_error(error)
    message = f"unexpected {type(error).__name__}: {reason(error)}"
    if debug:
        return message
    try:
        with NamedTemporaryFile("w", encoding="utf-8", prefix="udr-error-", suffix=".txt", delete=False) as report:
            traceback.print_exception(error, file=report)
    except OSError:
        return f"{message}; {DEBUG} shows where"
    return f"{message}; the full report is in {report.name}, and {DEBUG} shows it"


def _open_closed_streams() -> None:
    """Replace closed standard streams, so that no file takes their number and receives what is printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")


def _drop_unwritten() -> None:
    """Drop what standard output cannot write; the interpreter would try again at its end, and exit with 120."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def application(command: str = "") -> typer.Typer:
    """Return the command ``udr`` with our own commands and those of other packages; of these only one, if it is named.

    To import them all takes longer than many a command.
    """
    app = command_group("Retrieve the demonstrations that help your language model most.", completion=True)
    app.callback(cls=Group)(_options)
    app.command()(retrieve)
    app.command()(prompt)
    app.command()(doctor)
    named = {entry.name: entry for entry in _commands()}
    if command in named:
        _add(app, named[command])
    elif command not in (retrieve.__name__, prompt.__name__, doctor.__name__):
        for entry in named.values():
            _add(app, entry)
    return app


def _show_version(requested: bool) -> None:
    if requested:
        print_text(f"udr {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_show_version)
    ] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show where an error arose; works after a command, too.")] = False,
) -> None:
    """Take the options before the command's name."""


@cache
def _commands() -> tuple[EntryPoint, ...]:
    # This looks into every package that is installed.
    return tuple(sorted(entry_points(group=GROUP), key=lambda entry: entry.name))


def _command(arguments: Sequence[str]) -> str:
    """Return the name of the command in a command line; empty without one."""
    return next((item for item in arguments if not item.startswith("-")), "")


def _package(entry: EntryPoint) -> str:
    return entry.module.partition(".")[0]


def _packages() -> set[str]:
    return {"udr", *map(_package, _commands())}


def _add(app: typer.Typer, entry: EntryPoint) -> None:
    """Add a command of another package; if it cannot be imported, add one that raises the reason."""
    try:
        command = entry.load()
    except ImportError as error:
        failure: UdrError = _missing_extra(error, [entry.name]) or ConfigError(
            f"the command {entry.name!r} cannot be loaded from {entry.value}: {error}"
        )
        failure.__cause__ = error

        def unavailable() -> None:
            raise failure

        any_arguments = {"allow_extra_args": True, "ignore_unknown_options": True}
        app.command(entry.name, help=f"(cannot be loaded: {error})", context_settings=any_arguments)(unavailable)
        return
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=entry.name)
    else:
        app.command(entry.name)(command)


def _log_to_stderr() -> None:
    """Show our own packages' logs from INFO, others' from WARNING, and of others' bars only downloads on a terminal."""
    # tqdm reads it when it is imported, so it holds for every library: some draw bars that no setting of theirs hides.
    os.environ["TQDM_DISABLE"] = "1"
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[STATUS])
    for package in _packages():
        logging.getLogger(package).setLevel(logging.INFO)
