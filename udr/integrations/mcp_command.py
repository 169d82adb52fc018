"""The command ``udr mcp``."""

from typing import Annotated

import typer

from udr.errors import ConfigError

_PORT = 8765


def mcp(
    source: Annotated[
        str, typer.Argument(help="The index directory, or the URL of a service.", metavar="DIR|URL", show_default=False)
    ],
    http: Annotated[
        bool, typer.Option("--http", help="Serve over HTTP at http://127.0.0.1:PORT/mcp in place of stdio.")
    ] = False,
    port: Annotated[int | None, typer.Option(help="The port for --http.", show_default=str(_PORT))] = None,
) -> None:
    """Give agents the tools retrieve, prompt and tasks, by the Model Context Protocol."""
    if port is not None and not http:
        raise ConfigError("--port has no effect without --http; add that, or omit --port")
    # Imported here, so that no other command loads the library.
    from udr.integrations.mcp import mcp_server, open_source

    server = mcp_server(open_source(source))
    if http:
        # This machine only: the protocol has no keys here.
        server.run("streamable-http", host="127.0.0.1", port=_PORT if port is None else port)
    else:
        server.run("stdio")
