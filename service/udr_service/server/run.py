"""The server: a socket, an application and uvicorn, from start to shutdown."""

import asyncio
import ctypes
import functools
import gc
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import cast

import uvicorn

from udr.cli import STATUS
from udr.errors import ConfigError, reason
from udr.models import Encoder
from udr_service.app import create_app
from udr_service.auth import refuse_open_address
from udr_service.errors import ListenError, ReloadError
from udr_service.observability import configure, prepare_export
from udr_service.server.bounded import BoundedServer
from udr_service.server.connections import Limits
from udr_service.serving import IndexSource, Service
from udr_service.settings import Settings

_LOG = logging.getLogger(__name__)
_SWITCH_SECONDS = 0.0005
_M_MMAP_THRESHOLD, _LARGE_BLOCK = -3, 65_536


def run(index: Path, settings: Settings) -> None:
    """Serve an index until SIGINT or SIGTERM; then finish the requests in flight and return. SIGHUP reloads.

    Args:
        index: the index directory.
        settings: the address, the device and the limits.

    Raises:
        ConfigError: other machines can reach the address but no keys are set, or the file of keys or the certificate is
            invalid.
        ListenError: the address is not available; raised before anything is loaded.
        UdrError: the index or its encoder cannot be loaded, or does not answer.
    """
    tls = _certificate(settings)
    refuse_open_address(settings.host, settings.keys is not None, settings.insecure_no_keys)
    configure(settings.log_level, settings.log_format)
    if settings.telemetry:
        prepare_export()
    source = IndexSource(index, settings)
    # Else a thread in Python code keeps the event loop waiting for 5 ms, each time that it has let the interpreter go.
    sys.setswitchinterval(_SWITCH_SECONDS)
    _return_freed_memory()
    with _signals_end_normally(), listening(settings.host, settings.port) as listener:
        # Raises if there is no index, before anything is loaded.
        source.current()
        STATUS.begin(f"loading {index}...")
        app = create_app(source, settings, own_names_only=settings.keys is None and not settings.insecure_no_keys)
        config = uvicorn.Config(
            app,
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(map(str, settings.trusted_proxies)),
            timeout_graceful_shutdown=settings.drain_seconds,
            # Uvicorn hands it to the event loop, which takes fractions, too.
            timeout_keep_alive=cast("int", settings.keep_alive_seconds),
        )
        service: Service = app.state.service
        server = _Server(config, service, _url(listener, "https" if tls else "http"))
        server.tls = tls
        service.reloader.steps.append(server.read_certificate)
        server.run([listener])
        if service.reloader.failure is not None:
            raise service.reloader.failure


def _return_freed_memory() -> None:
    """Let glibc return each large block as it is freed; else the blocks of many bodies remain in its heaps."""
    # Missing in other C libraries.
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)


def _certificate(settings: Settings) -> ssl.SSLContext | None:
    """Return what serves the certificate in the settings' files as they are now; None without one."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    for path in (settings.tls_cert, settings.tls_key):
        if not path.is_file():
            raise ConfigError(f"{path}: no such file; --tls-cert and --tls-key name PEM files")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"{settings.tls_cert} and {settings.tls_key}: not a certificate and its private key in PEM: {reason(error)}"
        ) from error
    return context


class _Server(BoundedServer):
    """Announces that the index is loaded, and stops if it cannot be loaded."""

    def __init__(self, config: uvicorn.Config, service: Service, address: str) -> None:
        super().__init__(config, _limits(service.settings), service.metrics)
        self._service, self._address, self._announced = service, address, False
        self._frozen: Encoder | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and reload keys and index at SIGHUP from now on."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
        await super().startup(sockets)

    def _reload(self) -> None:
        async def reload() -> None:
            # A refusal is logged where it happens.
            with suppress(ReloadError):
                reloaded = await self._service.reloader.reload()
                _LOG.warning("SIGHUP: read the keys again; version %s answers", reloaded.version)

        # Kept, since the loop itself holds tasks weakly.
        self._reloading = asyncio.ensure_future(reload())

    async def on_tick(self, counter: int) -> bool:
        """Check, ten times a second, whether loading has finished; return whether to stop."""
        if not self._announced and self._service.current.version is not None:
            self._announced = True
            with self._service.current.lease() as active:
                sizes = active.retriever.sizes
            summary = f"{len(sizes)} tasks, {sum(sizes.values())} demonstrations"
            STATUS.notice(f"serving {summary} at {self._address}")
        self._freeze_garbage_collection()
        return await super().on_tick(counter) or self._service.reloader.failure is not None

    def read_certificate(self) -> Callable[[], object]:
        """Read the certificate again; return what makes new connections use it."""
        return functools.partial(setattr, self, "tls", _certificate(self._service.settings))

    def _freeze_garbage_collection(self) -> None:
        """Exclude all present objects from garbage collection, once per encoder.

        A full collection visits the half million objects of torch and a model, which takes a third of a second during
        which no request is answered.
        """
        current = self._service.current
        if current.version is None or not current.alone:
            return
        with current.lease() as active:
            encoder = active.retriever.encoder
        if encoder is not self._frozen:
            self._frozen = encoder
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            # Of nothing: full collections then depend on what requests leave behind, not on what was frozen.
            gc.collect()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop being ready, answer for ``linger_seconds``, then stop; at the second signal, stop at once."""
        linger = self._service.settings.linger_seconds
        if self._service.current.draining or not linger:
            super().handle_exit(sig, frame)
        else:
            loop = asyncio.get_running_loop()
            # Thread-safe, since a signal may interrupt the loop's own work on its timers.
            loop.call_soon_threadsafe(loop.call_later, linger, super().handle_exit, sig, frame)
        self._service.current.draining = True


def _limits(settings: Settings) -> Limits:
    return Limits(
        connections=settings.max_connections,
        by_address=settings.max_connections_per_address,
        exempt=settings.trusted_proxies,
        head_bytes=settings.max_head_bytes,
        receive_seconds=settings.receive_seconds,
        unsent_bytes=settings.max_bodies_bytes,
    )


@contextmanager
def _signals_end_normally() -> Iterator[None]:
    """Treat SIGTERM like SIGINT, and either as a normal end; ignore SIGHUP until the server reloads at it.

    Uvicorn raises the signal again after its shutdown, where the default handler would kill the process.
    """
    term = signal.signal(signal.SIGTERM, signal.default_int_handler)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, term)
        signal.signal(signal.SIGHUP, hangup)


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Listen before the model is loaded, so that a port in use fails at once and early clients wait.

    Raises:
        ListenError: the address is in use, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        # Python appends the address to the system's message.
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)
        raise ListenError(
            f"cannot listen on {host}, port {port}: {why.partition(' (while')[0]}; choose another with --port, or a "
            "free one with --port 0"
        ) from error
    with listener:
        # Accepted sockets inherit it; asyncio sets it only on sockets that it makes itself. Without it, an answer in
        # two parts waits 40 ms for the client's delayed acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


def _url(listener: socket.socket, scheme: str) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
