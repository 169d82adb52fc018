"""The server: a socket, an application and uvicorn, from start to shutdown."""

import ctypes
import errno
import functools
import gc
import logging
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import uvicorn
from fastapi import FastAPI

from udr.cli import STATUS, check_tokenizers
from udr.client.shards import ShardedClient, read_placements
from udr.errors import ConfigError, MissingExtraError
from udr.files import expanded, remote_url
from udr.models import hub, num_threads, ray_cluster
from udr.search import can_fit
from udr_service.app import create_app, create_shards_app, gpus_per_replica, replicas
from udr_service.auth import refuse_open_address
from udr_service.errors import ListenError, ReloadError
from udr_service.observability import configure, prepare_export
from udr_service.server.index_server import IndexServer, ShardsServer, certificate
from udr_service.server.member import Member
from udr_service.server.sharing import SharingServer
from udr_service.server.supervisor import Supervisor
from udr_service.serving import IndexSource, Mirror, SharedShares, Team
from udr_service.settings import Settings

_LOG = logging.getLogger(__name__)

_SWITCH_SECONDS, _LOOK_SECONDS, _REPLICAS_WATCH_SECONDS = 0.0005, 1.0, 1.0
_M_MMAP_THRESHOLD, _LARGE_BLOCK = -3, 65_536


def run(index: Path, settings: Settings) -> None:
    """Serve an index until SIGINT or SIGTERM; then finish the requests in flight and return. SIGHUP reloads.

    Args:
        index: the index directory; or a manifest of placements, to ask the services that it names.
        settings: the address, the device and the limits.

    Raises:
        ConfigError: other machines can reach the address but no keys are set, or the file of keys or the certificate is
            invalid.
        ListenError: the address is not available; raised before anything is loaded.
        ModelError: there is no tokenizer of a name; raised before anything else is loaded.
        MissingExtraError: it is to compact the index, but label heads cannot be fitted here.
        UdrError: the index or its encoder cannot be loaded, or does not answer.
    """
    tls = certificate(settings)
    refuse_open_address(settings.host, settings.keys is not None, settings.insecure_no_keys)
    check_tokenizers(settings.tokenizer)
    configure(settings.log_level, settings.log_format)
    if settings.telemetry:
        prepare_export()
    if index.is_file():
        run_shards(index, settings, tls)
        return
    if settings.runner == "ray":
        run_replicas(index, settings)
        return
    if settings.compact_rows and not can_fit():
        # Else each compaction would encode everything, fail, and be tried again.
        raise MissingExtraError("scikit-learn, which --compact-rows needs for label heads,", "index")
    source = IndexSource(index, settings)
    # Else a thread in Python code keeps the event loop waiting for 5 ms, each time that it has let the interpreter go.
    sys.setswitchinterval(_SWITCH_SECONDS)
    _return_freed_memory()
    with _signals_end_normally(), listening(settings.host, settings.port) as listener:
        # Raises if there is no index, before anything is loaded.
        source.current()
        url = _url(listener, "https" if tls else "http")
        if settings.workers == 1:
            STATUS.begin(f"loading {index}...")
            app, config = _application(source, settings)
            _serve(IndexServer(config, app.state.service, url, tls), listener)
        else:
            STATUS.notice(f"loading {index} in {settings.workers} workers...")
            # Each has its part of the cores, unless the user has said how many threads it has.
            os.environ.setdefault("OMP_NUM_THREADS", str(max(1, num_threads() // settings.workers)))
            source.preload()
            # The command has turned collection off. What forks share is frozen, so that no collection copies it.
            gc.freeze()
            gc.enable()
            shares = SharedShares(settings.workers)
            Supervisor(
                settings, listener, shares, functools.partial(_work, source, settings, listener, url), source.writer
            ).run()
            if settings.mirror is not None:
                Mirror(source, settings.mirror).copy_last()


def run_shards(path: Path, settings: Settings, tls: ssl.SSLContext | None) -> None:
    """Ask the services of shards, likewise. SIGHUP reloads the keys and the certificate.

    Raises:
        ArtifactError: the file is no manifest of placements.
        ListenError: the address is not available.
    """
    placements = read_placements(path)
    with _signals_end_normally(), listening(settings.host, settings.port) as listener:
        STATUS.begin(f"loading {path}...")
        client = ShardedClient(placements, timeout=settings.timeout_seconds)
        app = create_shards_app(client, settings, own_names_only=_own_names_only(settings))
        server = ShardsServer(_configuration(app, settings), app.state.service, tls)
        rows, address = sum(placements.sizes.values()), _url(listener, "https" if server.tls else "http")
        number = f"{len(placements.shards)} {'shard' if len(placements.shards) == 1 else 'shards'}"
        STATUS.notice(f"serving {number}, {rows} demonstrations at {address}")
        server.run([listener])


def run_replicas(index: Path, settings: Settings) -> None:
    """Serve an index by replicas on a Ray cluster, likewise. SIGHUP reloads all of them.

    Raises:
        ConfigError: they are to follow nothing, their GPUs do not fit the device, the path of a tokenizer is relative,
            or the cluster cannot be used.
        WorkerError: no replica could start.
    """
    if "watch_seconds" in settings.model_fields_set and not settings.watch_seconds:
        raise ConfigError(
            "--watch-seconds 0 would let a replica that starts later answer from another version than the others; with "
            "--runner ray, give a number above 0, or omit it"
        )
    gpus_per_replica(settings)
    # Answers name a tokenizer as it is given, so its name is not replaced.
    names = [name for name in settings.tokenizer if not expanded(name).is_absolute()]
    if relative := [name for name in names if hub.absolute(name) != name]:
        raise ConfigError(
            f"--tokenizer {relative[0]} is a relative path, and replicas run in other folders; give "
            f"{hub.absolute(relative[0])}"
        )
    # Raises if there is no index.
    IndexSource(index, settings).current()
    with listening(settings.host, settings.port) as listener:
        url = _url(listener, "http" if settings.tls_cert is None else "https")
        port = listener.getsockname()[1]
    place = index.resolve() if remote_url(index) is None else index
    paths = {name: path and path.resolve() for name, path in _files(settings)}
    settings = settings.model_copy(
        # Each follows what is published, also if it starts later than the others.
        update={**paths, "port": port, "watch_seconds": settings.watch_seconds or _REPLICAS_WATCH_SECONDS}
    )
    # Ray has handlers of its own, which come first.
    with ray_cluster(settings.ray_address), _signals_end_normally():
        number = f"{settings.replicas} {'replica' if settings.replicas == 1 else 'replicas'}"
        STATUS.notice(f"loading {index} in {number}...")
        with replicas(place, settings, own_names_only=_own_names_only(settings)) as served:
            hangup = threading.Event()
            signal.signal(signal.SIGHUP, lambda *_: hangup.set())
            STATUS.notice(f"serving {served.summary()} at {url}, with {number}")
            while True:
                # A wait without end would not let signals in.
                if hangup.wait(_LOOK_SECONDS):
                    hangup.clear()
                    try:
                        served.reload()
                        _LOG.warning("SIGHUP: all replicas have read keys and index again")
                    except ReloadError as error:
                        _LOG.error("SIGHUP: %s", error)


def _files(settings: Settings) -> list[tuple[str, Path | None]]:
    return [("keys", settings.keys), ("tls_cert", settings.tls_cert), ("tls_key", settings.tls_key)]


def _work(source: IndexSource, settings: Settings, listener: socket.socket, url: str, member: Member) -> None:
    """Serve as one of several workers."""
    with _signals_end_normally():
        # The process that started all has the lock of the writer.
        source.take_lock = lambda: None
        app, config = _application(source, settings, member)
        _serve(SharingServer(config, app.state.service, url, member), listener)


def _application(source: IndexSource, settings: Settings, team: Team | None = None) -> tuple[FastAPI, uvicorn.Config]:
    app = create_app(source, settings, own_names_only=_own_names_only(settings), team=team)
    return app, _configuration(app, settings)


def _own_names_only(settings: Settings) -> bool:
    return settings.keys is None and not settings.insecure_no_keys


def _configuration(app: FastAPI, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
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


def _serve(server: IndexServer, listener: socket.socket) -> None:
    server.run([listener])
    if server.failure is not None:
        raise server.failure


def _return_freed_memory() -> None:
    """Let glibc return each large block as it is freed; else the blocks of many bodies remain in its heaps."""
    # Missing in other C libraries.
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)


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
        in_use = error.errno in (errno.EADDRINUSE, errno.EACCES)
        advice = "choose another with --port, or a free one with --port 0" if in_use else "choose another with --host"
        raise ListenError(f"cannot listen on {host}, port {port}: {why.partition(' (while')[0]}; {advice}") from error
    with listener:
        # Accepted sockets inherit it; asyncio sets it only on sockets that it makes itself. Without it, an answer in
        # two parts waits 40 ms for the client's delayed acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


def _url(listener: socket.socket, scheme: str) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
