"""The server: a socket, a retriever and uvicorn, from the first moment to the last."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import typer
import uvicorn

from udr.errors import RequestError
from udr.retriever import Retriever
from udr_service.app import create_app
from udr_service.errors import ListenError
from udr_service.settings import Settings
from udr_service.worker import CHECK


def run(index: Path, settings: Settings) -> None:
    """Serve an index until SIGINT or SIGTERM; then finish what is in work and return.

    Args:
        index: the index directory.
        settings: the address, the device and the limits.

    Raises:
        ListenError: the address cannot be listened on; told before anything is loaded.
        UdrError: the index or its encoder cannot be loaded, or does not answer.
    """
    with _told_to_end(), listening(settings.host, settings.port) as listener:
        with Retriever.open(index, device=settings.device) as retriever:
            _check(retriever)
            config = uvicorn.Config(
                create_app(retriever, settings),
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=settings.drain_seconds,
            )
            address = _url(listener)
            served = f"{len(retriever.tasks)} tasks, {sum(retriever.sizes.values())} demonstrations"
            _Server(config, lambda: typer.echo(f"udr: serving {served} at {address}", err=True)).run([listener])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()


def _check(retriever: Retriever) -> None:
    """Encode and search once: what does not work fails here, and the first client does not wait for a warm-up."""
    (answer,) = retriever.answer([CHECK])
    if isinstance(answer, RequestError):
        raise answer


@contextmanager
def _told_to_end() -> Iterator[None]:
    """Take SIGTERM for SIGINT, and either for the normal end.

    Uvicorn sends itself the signal again when it has shut down, so that a default handler would still kill us.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Listen before the model is loaded: a port in use is told at once, and whoever comes early waits.

    Raises:
        ListenError: the address is in use, or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        # Python adds the address to the system's words for it.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)
        raise ListenError(
            f"cannot listen on {host}, port {port}: {reason}; choose another with --port, or a free one with --port 0"
        ) from error
    with listener:
        # Accepted sockets inherit it. Asyncio would set it on sockets that it makes itself; without it, an answer
        # in two parts waits 40 ms for the client's delayed acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
