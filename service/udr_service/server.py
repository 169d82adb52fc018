"""The server: a socket, a retriever and uvicorn, from the first moment to the last."""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import typer
import uvicorn

from udr.models import Encoder
from udr_service.app import create_app
from udr_service.auth import refuse_open_address
from udr_service.errors import ListenError
from udr_service.observability import configure, prepare_export
from udr_service.serving import Counts, IndexSource, Service
from udr_service.settings import Settings

_ON_THE_WAY_SECONDS = 0.2
_GREETING_SECONDS = 1.0


def run(index: Path, settings: Settings) -> None:
    """Serve an index until SIGINT or SIGTERM; then finish what is in work and return.

    Args:
        index: the index directory.
        settings: the address, the device and the limits.

    Raises:
        ConfigError: the address is open to others and asks for no keys, or the file of keys makes no sense.
        ListenError: the address cannot be listened on; told before anything is loaded.
        UdrError: the index or its encoder cannot be loaded, or does not answer.
    """
    refuse_open_address(settings.host, settings.keys is not None, settings.insecure_no_keys)
    configure(settings.log_level, settings.log_format)
    if settings.telemetry:
        prepare_export()
    counts = Counts()
    source = IndexSource(index, settings, counts)
    with _told_to_end(), listening(settings.host, settings.port) as listener:
        source.current()
        open_to_all = settings.keys is None and not settings.insecure_no_keys
        app = create_app(source, settings, counts=counts, own_names_only=open_to_all)
        config = uvicorn.Config(
            app,
            # Of those who knock, uvloop lets in one a turn: where turns are long, the last wait for half a minute.
            loop="asyncio",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=settings.drain_seconds,
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
        )
        service: Service = app.state.service
        server = _Server(config, service, _url(listener, "https" if settings.tls_cert else "http"))
        server.run([listener])
        service.reloader.raise_failure()


class _Server(uvicorn.Server):
    """Says when the index is loaded, ends when it cannot be, and lets clients go before it ends.

    Args:
        config: uvicorn's.
        service: what is served.
        address: where, for people.
    """

    def __init__(self, config: uvicorn.Config, service: Service, address: str) -> None:
        super().__init__(config)
        self._service, self._address, self._announced = service, address, False
        self._kept: Encoder | None = None

    async def on_tick(self, counter: int) -> bool:
        """Look, ten times a second, how far loading has come; return whether to end."""
        if not self._announced and self._service.current.version is not None:
            self._announced = True
            with self._service.current.lease() as served:
                sizes = served.retriever.sizes
            what = f"{len(sizes)} tasks, {sum(sizes.values())} demonstrations"
            typer.echo(f"udr: serving {what} at {self._address}", err=True)
        self._keep_from_collection()
        return await super().on_tick(counter) or self._service.reloader.failure is not None

    def _keep_from_collection(self) -> None:
        """Have garbage looked for among what comes from now on, once for each encoder.

        Python looks through all there is, while everything waits: a third of a second for the half million objects that
        torch and a model come with, which are no garbage until another encoder takes over.
        """
        current = self._service.current
        if current.version is None or not current.alone:
            return
        with current.lease() as served:
            encoder = served.retriever.encoder
        if encoder is not self._kept:
            self._kept = encoder
            gc.unfreeze()
            gc.collect()
            gc.freeze()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Be ready no longer, answer on for a while, then end; told twice, end at once."""
        linger = self._service.settings.linger_seconds
        if self._service.current.draining or not linger:
            super().handle_exit(sig, frame)
        else:
            loop = asyncio.get_running_loop()
            # A signal may fall into the loop's own work on its timers.
            loop.call_soon_threadsafe(loop.call_later, linger, super().handle_exit, sig, frame)
        self._service.current.draining = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let in who waits at the door, listen no longer, read what they send, then do as uvicorn does.

        It would reset who waits, and close every connection of which it has read no request yet.
        """
        for listener in sockets or []:
            await self._let_in(listener)
        # Nothing is awaited between the last one let in and this.
        for server in self.servers:
            server.close()
        await asyncio.sleep(_ON_THE_WAY_SECONDS)
        await super().shutdown(sockets)

    async def _let_in(self, listener: socket.socket) -> None:
        config, state, loop = self.config, self.lifespan.state, asyncio.get_running_loop()

        def protocol() -> asyncio.Protocol:
            # As uvicorn makes them, which has these arguments and no type for them.
            return config.http_protocol_class(config=config, server_state=self.server_state, app_state=state)  # type: ignore[call-arg]

        connecting = []
        with suppress(OSError):
            # Until nobody waits, or the system refuses.
            while True:
                accepted, _ = listener.accept()
                connecting.append(loop.connect_accepted_socket(protocol, accepted, ssl=config.ssl))
        # With TLS, some may never greet, or not rightly; they must not hold up the others' end.
        with suppress(TimeoutError):
            async with asyncio.timeout(_GREETING_SECONDS):
                await asyncio.gather(*connecting, return_exceptions=True)


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


def _url(listener: socket.socket, scheme: str) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
