"""The command ``udr serve``."""

from pathlib import Path
from typing import Annotated

import typer

from udr.errors import MissingExtraError


def serve(
    index: Annotated[Path, typer.Argument(help="The index directory.", metavar="DIR", show_default=False)],
    host: Annotated[str | None, typer.Option(help="The address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="The port; 0 picks a free one.", show_default="8000")] = None,
    device: Annotated[str | None, typer.Option(help="Where the encoder runs: cpu, cuda, ...")] = None,
) -> None:
    """Serve an index over REST until Ctrl-C. Limits come from the environment, as UDR_MAX_K=64."""
    # Imported here, so that no other command loads a web framework.
    try:
        from udr_service.server import run
        from udr_service.settings import Settings
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{error.name}, which serving needs,", "service") from error
    run(index, Settings.read(host=host, port=port, device=device))
