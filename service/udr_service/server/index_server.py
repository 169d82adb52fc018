"""The servers of an index, which say when it is loaded, and of shards: they reload at SIGHUP, and stop at a signal."""

import asyncio
import gc
import logging
import signal
import socket
import ssl
from abc import abstractmethod
from contextlib import suppress
from types import FrameType

import uvicorn

from udr.cli import STATUS
from udr.errors import ConfigError, reason
from udr.models import Encoder
from udr_service.api.shards import ShardsService
from udr_service.errors import ReloadError
from udr_service.server.bounded import BoundedServer
from udr_service.server.connections import Limits
from udr_service.serving import Service, Shares
from udr_service.settings import Settings

_LOG = logging.getLogger(__name__)


class ReloadingServer(BoundedServer):
    """Reloads at SIGHUP, and lingers at the signal to stop."""

    _reloads_at_sighup = True

    def __init__(
        self,
        config: uvicorn.Config,
        service: Service | ShardsService,
        tls: ssl.SSLContext | None,
        shares: Shares | None = None,
    ) -> None:
        super().__init__(config, limits_of(service.settings), service.metrics, shares)
        self._settings, self._current = service.settings, service.current
        self.tls = tls

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and reload at SIGHUP from now on."""
        if self._reloads_at_sighup:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
        await super().startup(sockets)

    def _reload(self) -> None:
        # Kept, since the loop itself holds tasks weakly.
        self._reloading = asyncio.ensure_future(self.reload())

    @abstractmethod
    async def reload(self) -> None:
        """Reload, as at SIGHUP; a refusal is logged."""

    def read_certificate(self) -> None:
        """Read the certificate again, for new connections."""
        self.tls = certificate(self._settings)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop being ready, answer for ``linger_seconds``, then stop; at the second signal, stop at once."""
        linger = self._settings.linger_seconds
        if self._current.draining or not linger:
            super().handle_exit(sig, frame)
        else:
            loop = asyncio.get_running_loop()
            # Thread-safe, since a signal may interrupt the loop's own work on its timers.
            loop.call_soon_threadsafe(loop.call_later, linger, super().handle_exit, sig, frame)
        self._current.draining = True


class ShardsServer(ReloadingServer):
    """Reloads the keys and the certificate. Other placements need another service."""

    def __init__(self, config: uvicorn.Config, service: ShardsService, tls: ssl.SSLContext | None) -> None:
        super().__init__(config, service, tls)
        self._service = service

    async def reload(self) -> None:
        """Reload keys and certificate, as at SIGHUP."""
        await self._service.reload(self.read_certificate)


class IndexServer(ReloadingServer):
    """Announces that the index is loaded, and stops if it cannot be loaded."""

    def __init__(
        self,
        config: uvicorn.Config,
        service: Service,
        address: str,
        tls: ssl.SSLContext | None,
        shares: Shares | None = None,
    ) -> None:
        super().__init__(config, service, tls, shares)
        self._service, self._address, self._announced = service, address, False
        service.reloader.steps.append(self.read_certificate)
        self._frozen: Encoder | None = None

    @property
    def failure(self) -> Exception | None:
        """The error that kept the index from loading."""
        return self._service.reloader.failure

    async def reload(self) -> None:
        """Reload keys and index, as at SIGHUP."""
        # A refusal is logged where it happens.
        with suppress(ReloadError):
            reloaded = await self._service.reloader.reload()
            _LOG.warning("SIGHUP: read the keys again; version %s answers", reloaded.version)

    async def on_tick(self, counter: int) -> bool:
        """Check, ten times a second, whether loading has finished; return whether to stop."""
        if not self._announced and self._service.current.version is not None:
            self._announced = True
            with self._service.current.lease() as active:
                self.announce(f"{active.summary} at {self._address}")
        self._freeze_garbage_collection()
        return await super().on_tick(counter) or self.failure is not None

    def announce(self, summary: str) -> None:
        """Say that this server can answer, and what it serves where."""
        STATUS.notice(f"serving {summary}")

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
            if self._frozen is not None:
                gc.unfreeze()
                # What the version before has left; a start leaves too little to hold up the first requests for.
                gc.collect()
            self._frozen = encoder
            gc.freeze()
            gc.enable()
            # Of nothing: full collections then depend on what requests leave behind, not on what was frozen.
            gc.collect()


def limits_of(settings: Settings) -> Limits:
    """Return the limits of connections."""
    return Limits(
        connections=settings.max_connections,
        by_address=settings.max_connections_per_address,
        exempt=settings.trusted_proxies,
        head_bytes=settings.max_head_bytes,
        receive_seconds=settings.receive_seconds,
        # Each worker's part: what waits shrinks without notice, as clients read.
        unsent_bytes=settings.max_bodies_bytes // settings.workers,
    )


def certificate(settings: Settings) -> ssl.SSLContext | None:
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
