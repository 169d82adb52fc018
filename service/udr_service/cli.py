"""The command ``udr serve``."""

import faulthandler
import gc
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from udr.cli import STATUS, Device, EngineName, help_groups, refuse_unused
from udr.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from udr_service.settings import Settings

_OF_REPLICAS = ("replicas", "max_replicas", "gpus_per_replica", "ray_address")
_OF_AN_INDEX = (
    *("device", "engine", "allow_hub", "upstream", "upstream_timeout_seconds", "watch_seconds", "workers"),
    *("durability", "compact_rows", "mirror", "usage", "runner", *_OF_REPLICAS),
)
"""The options that a service of shards has not."""

_OF_A_PROCESS = ("workers", "durability", "compact_rows", "mirror", "linger_seconds")
"""The options that replicas have not: they write nothing, and Ray Serve accepts the connections."""


@help_groups(
    {
        "Address": "host port workers root_path trusted_proxies",
        "Replicas on a Ray cluster": "runner replicas max_replicas gpus_per_replica ray_address",
        "Models": "device engine tokenizer allow_hub",
        "Access": "keys insecure_no_keys tls_cert tls_key",
        "A language model behind the service": "upstream upstream_timeout_seconds",
        "Versions and writes": "watch_seconds durability compact_rows mirror usage",
        "Connections and stopping": "keep_alive_seconds linger_seconds drain_seconds",
        "Log": "log_level log_format",
    }
)
def serve(
    index: Annotated[
        Path,
        typer.Argument(
            help="The index directory; or a manifest of placements (udr index place), to ask the services of shards.",
            metavar="DIR",
            show_default=False,
        ),
    ],
    host: Annotated[str | None, typer.Option(help="The address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="The port; 0 picks a free one.", show_default="8000")] = None,
    device: Device = None,
    engine: EngineName = None,
    tokenizer: Annotated[
        list[str] | None,
        typer.Option(
            help="A model whose tokenizer counts prompt tokens; can be repeated: a request names one, and the first is "
            "the default.",
            show_default="the index's, else the encoder's",
        ),
    ] = None,
    allow_hub: Annotated[
        bool | None,
        typer.Option("--allow-hub", help="Load the encoder from the Hugging Face hub if the index names it there."),
    ] = None,
    keys: Annotated[Path | None, typer.Option(help="The file of API keys; udr keys new makes one.")] = None,
    insecure_no_keys: Annotated[
        bool | None, typer.Option("--insecure-no-keys", help="Allow other machines without keys.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="The certificate, a PEM file.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="The certificate's private key, a PEM file.")] = None,
    upstream: Annotated[
        str | None,
        typer.Option(
            help="Answer chats, with demonstrations, by an OpenAI-compatible server: http://127.0.0.1:8080/v1.",
            metavar="URL",
        ),
    ] = None,
    upstream_timeout_seconds: Annotated[
        float | None, typer.Option(help="How long an answer of the upstream may take.", show_default="600")
    ] = None,
    watch_seconds: Annotated[
        float | None,
        typer.Option(help="How often to look for a newly published version, in seconds.", show_default="never"),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that answer, at one port.", show_default="1")] = None,
    runner: Annotated[
        str | None,
        typer.Option(
            help="Where it runs: local, in this process; or ray, as replicas on a Ray cluster.", show_default="local"
        ),
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(help="Replicas of --runner ray, each with the encoder.", show_default="1")
    ] = None,
    max_replicas: Annotated[
        int | None,
        typer.Option(help="Add replicas, up to so many, while requests queue.", show_default="no more", metavar="N"),
    ] = None,
    gpus_per_replica: Annotated[
        float | None,
        typer.Option(help="GPUs of each, such as 0.5.", show_default="1 with --device cuda, else 0"),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="The cluster, HOST:PORT or auto.", show_default="RAY_ADDRESS, or a cluster on this machine alone"
        ),
    ] = None,
    durability: Annotated[
        str | None,
        typer.Option(
            help="When a write is acknowledged: once it is on the disk, or once the system has it: disk or system.",
            show_default="disk",
        ),
    ] = None,
    compact_rows: Annotated[
        int | None,
        typer.Option(
            help="Make a new version, in the background, when so many rows were put or deleted since the last one.",
            show_default="never",
            metavar="N",
        ),
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(help="Copy what is written to this index on a remote store, for its replicas.", metavar="URL"),
    ] = None,
    usage: Annotated[
        str | None,
        typer.Option(
            help="What to keep of its use: off; counts, of demonstrations retrieved and shown; inputs, also those of "
            "prompts, for the export of outcomes.",
            show_default="counts",
        ),
    ] = None,
    root_path: Annotated[
        str | None,
        typer.Option(help="What a proxy puts before the service's paths, such as /udr."),
    ] = None,
    trusted_proxies: Annotated[
        str | None,
        typer.Option(
            help="Proxies whose X-Forwarded-For and -Proto are believed: addresses and networks, separated by commas."
        ),
    ] = None,
    keep_alive_seconds: Annotated[
        float | None,
        typer.Option(
            help="How long a connection may stay open between requests; longer than the proxy keeps it.",
            show_default="75",
        ),
    ] = None,
    linger_seconds: Annotated[
        float | None,
        typer.Option(help="How long to keep answering, while not ready, after the signal to stop.", show_default="0"),
    ] = None,
    drain_seconds: Annotated[
        int | None, typer.Option(help="How long requests in flight may take after that.", show_default="10")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info (one line per request), warning or error.", show_default="warning")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="json or text.", show_default="json")] = None,
) -> None:
    """Serve an index over REST until Ctrl-C. Environment variables such as UDR_MAX_K=64 set these options and more."""
    flags = {name: value for name, value in locals().items() if name != "index"}
    # If C code crashes, its traceback goes to the standard error, which is open by now.
    faulthandler.enable(2)
    # NumPy reads it when it is imported. Its threads would spin between small products, on cores that encoding needs.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # What is imported and loaded is no garbage, and is frozen at last: to look for garbage in it takes time.
    gc.disable()
    # Imported here, so that no other command loads a web framework.
    try:
        from udr_service.server import run
        from udr_service.settings import Settings
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{error.name}, which serving needs,", "service") from error
    settings = Settings.read(**flags)
    if index.is_file():
        for option in _given(_OF_AN_INDEX, flags):
            raise ConfigError(f"{index} names the services of shards, which {option} is not for; omit {option}")
        settings = _without(_OF_AN_INDEX, settings, "an index directory")
    names, needed = (_OF_REPLICAS, "ray") if settings.runner == "local" else (_OF_A_PROCESS, "local")
    refuse_unused(_given(names, flags), f"--runner {needed}")
    settings = _without(names, settings, f"--runner {needed}")
    if settings.upstream is None:
        refuse_unused({"--upstream-timeout-seconds": upstream_timeout_seconds}, "--upstream URL")
    run(index, settings)


def _given(names: Iterable[str], flags: Mapping[str, object]) -> dict[str, object]:
    """Return the options that are given, of some settings."""
    return {f"--{name.replace('_', '-')}": flags[name] for name in names if flags[name] is not None}


def _without(names: Iterable[str], settings: "Settings", needed: str) -> "Settings":
    """Return the settings without what variables set that has no effect without ``needed``; a notice names it.

    An image or a unit sets them for whatever it serves, so they are not refused as options are.
    """
    defaults = {name: type(settings).model_fields[name].default for name in names}
    unused = {name: value for name, value in defaults.items() if getattr(settings, name) != value}
    if unused:
        variables = ", ".join(f"UDR_{name.upper()}" for name in unused)
        STATUS.notice(f"without effect, since they need {needed}: {variables}")
    return settings.model_copy(update=unused)
