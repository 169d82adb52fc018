"""Replicas of the application of an index on a Ray cluster, behind Ray Serve's proxies."""

import asyncio
import logging
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from udr.cli import naming_flags
from udr.errors import ConfigError, NotWriterError, optional_import, reason
from udr.models import RunnerOptions, cluster_nodes, share
from udr_service.app.index_app import create_app
from udr_service.errors import ReloadError, WorkerError
from udr_service.observability import Report, configure, prepare_export
from udr_service.serving import IndexSource, Service, Shares
from udr_service.settings import Settings

_NAME, _CONTROLLER = "udr", "SERVE_CONTROLLER_ACTOR"
_REPORT_SECONDS, _RELOAD_SECONDS = 2.0, 600.0
_WAIT_SECONDS, _HEALTH_SECONDS = 0.5, 2.0


class Replica:
    """One of several processes that answer, each on its own: Ray Serve starts it, and calls its application.

    Args:
        index: the index directory, or an index on a remote store.
        settings: as for a service in one process; the limits are those of each replica.
        own_names_only: see ``create_app``.
    """

    async def __init__(self, index: Path, settings: Settings, own_names_only: bool) -> None:  # type: ignore[misc]
        # Ray Serve awaits it.
        configure(settings.log_level, settings.log_format)
        if settings.telemetry:
            prepare_export()
        source = IndexSource(index, settings)
        # Requests come to any replica, but only one process may write.
        source.take_lock = _refuse_to_write
        self._app = create_app(source, settings, own_names_only=own_names_only)
        self._proxies = [str(network) for network in settings.trusted_proxies]
        self._service: Service = self._app.state.service
        # Here, and not when it has started: Ray Serve sends no request before, and tells what the error was.
        await self._service.reloader.load()

    def __serve_build_asgi_app__(self) -> FastAPI | ProxyHeadersMiddleware:
        from ray import serve

        context: Any = serve.get_replica_context()
        self._name = f"replica {context.replica_tag}"
        others = OtherReplicas(serve.get_deployment_handle(context.deployment, context.app_name), self._name)
        self._service.metrics.labels = {"replica": context.replica_tag}
        self._service.reloader.tell = others.tell
        self._app.state.service = replace(self._service, team=others)
        return ProxyHeadersMiddleware(cast("Any", self._app), self._proxies) if self._proxies else self._app

    async def reload(self, by: str) -> str | None:
        """Reload, unless this replica is the one that tells all others to; return what was wrong, if anything."""
        try:
            if by != self._name:
                await self._service.reloader.follow(by)
        except ReloadError as error:
            return str(error)
        return None

    async def report(self) -> tuple[str, Report]:
        """Return the replica's name, and what it has counted."""
        await self._service.gauge()
        return self._name, await asyncio.to_thread(self._service.metrics.report)

    async def summary(self) -> str:
        """Return what it serves, in words."""
        with self._service.current.lease() as active:
            return active.summary


class OtherReplicas:
    """The other replicas, as one of them sees them; see ``udr_service.serving.Others``.

    Args:
        handle: Ray Serve's, of all replicas.
        name: of the one that sees the others.
        seconds: how long each of them has to answer with its report.
    """

    def __init__(self, handle: Any, name: str, seconds: float = _REPORT_SECONDS) -> None:  # noqa: ANN401
        # Ray's types are too loose to check.
        self._handle, self._name, self._seconds, self.shares = handle, name, seconds, Shares()
        # Else Ray warns that a thread which waits for answers would be the event loop.
        os.environ.setdefault("RAY_WARN_BLOCKING_GET_INSIDE_ASYNC", "0")

    async def tell(self) -> None:
        """Have all replicas reload; raise a ``ReloadError`` if one does not."""
        refuse_partial(await self._ask(_RELOAD_SECONDS, "reload", self._name))

    async def reports(self) -> Sequence[Report]:
        """Return what the others have counted; those that do not answer are left out."""
        answers = await self._ask(self._seconds, "report")
        return [each[1] for each in answers if not isinstance(each, Exception) and each[0] != self._name]

    async def take_writer_lock(self) -> None:
        """Refuse."""
        _refuse_to_write()

    async def _ask(self, seconds: float, *call: str) -> list[Any]:
        # Awaited, one that is too slow would cost the answers of all.
        return await asyncio.to_thread(_answers, self._handle.broadcast(*call), seconds)


class Replicas:
    """The replicas, as the process that started them sees them.

    Args:
        handle: Ray Serve's, of all replicas.
        seconds: how long each of them has to reload.
    """

    def __init__(self, handle: Any, seconds: float = _RELOAD_SECONDS) -> None:  # noqa: ANN401
        # Ray's types are too loose to check.
        self._handle, self._seconds = handle, seconds

    def summary(self) -> str:
        """Return what they serve, in words."""
        return str(self._handle.summary.remote().result())

    def reload(self) -> None:
        """Have all of them reload; raise a ``ReloadError`` if one does not."""
        refuse_partial(_answers(self._handle.broadcast("reload", "SIGHUP"), self._seconds))


@contextmanager
def replicas(index: Path, settings: Settings, *, own_names_only: bool = False) -> Iterator[Replicas]:
    """Serve an index by replicas on the cluster that this process is connected to, until the block ends.

    Args:
        index: the index directory, at the same path on all machines; or an index on a remote store.
        settings: as for a service in one process, and how many replicas there are.
        own_names_only: see ``create_app``.

    Raises:
        MissingExtraError: Ray Serve is not installed.
        ConfigError: Ray Serve runs on the cluster already, or the cluster is too small.
        WorkerError: no replica could start.
    """
    with optional_import("Ray Serve", "ray"):
        import ray
        from ray import serve
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    # Their types are too loose to check.
    cluster, api = cast("Any", ray), cast("Any", serve)
    with suppress(ValueError):
        cluster.get_actor(_CONTROLLER, namespace="serve")
        raise ConfigError("Ray Serve runs on this cluster already; end it with: serve shutdown")
    gpus, most = gpus_per_replica(settings), settings.max_replicas or settings.replicas
    _, cpus = share(cluster_nodes(), most, gpus, "--replicas and --max-replicas")
    deployment = api.deployment(api.ingress()(Replica)).options(
        name=_NAME,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        # The service has a queue of its own, from which it makes batches.
        max_ongoing_requests=settings.queue_size,
        graceful_shutdown_wait_loop_s=_WAIT_SECONDS,
        graceful_shutdown_timeout_s=settings.drain_seconds,
        health_check_period_s=_HEALTH_SECONDS,
        max_constructor_retry_count=1,
        **_numbers(settings),
    )
    http = {
        "host": settings.host,
        "port": settings.port,
        "keep_alive_timeout_s": math.ceil(settings.keep_alive_seconds),
        "ssl_certfile": None if settings.tls_cert is None else str(settings.tls_cert.resolve()),
        "ssl_keyfile": None if settings.tls_key is None else str(settings.tls_key.resolve()),
    }
    # Each request has a line in the service's own log, if it is to have one.
    logs = {"log_level": "ERROR", "enable_access_log": False}
    try:
        api.start(proxy_location="EveryNode", http_options=http, logging_config=logs)
        try:
            handle = api.run(deployment.bind(index, settings, own_names_only), name=_NAME)
        except RuntimeError as error:
            raise WorkerError(f"no replica could start: {_why(api, error)}") from error
        yield Replicas(handle)
    finally:
        # Of what it ends itself, Ray says that it died.
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        api.shutdown()


def gpus_per_replica(settings: Settings) -> float:
    """Return the GPUs of each replica; ``ConfigError`` if they do not fit the device."""
    device, options = settings.device or "cpu", RunnerOptions(runner="ray", gpus_per_worker=settings.gpus_per_replica)
    with naming_flags({"--gpus-per-worker": "--gpus-per-replica", "worker": "replica"}):
        options.check(device)
    return options.gpus(device)


def _numbers(settings: Settings) -> dict[str, Any]:
    """Return the options of Ray Serve that say how many replicas there are."""
    if settings.max_replicas is None:
        return {"num_replicas": settings.replicas}
    scaling = {
        "min_replicas": settings.replicas,
        "max_replicas": settings.max_replicas,
        "target_ongoing_requests": settings.replica_requests,
    }
    return {"autoscaling_config": scaling}


def _why(api: Any, error: Exception) -> str:  # noqa: ANN401
    """Return what kept replicas from starting: the last line of what Ray Serve says of them."""
    status = api.status().applications.get(_NAME)
    messages = [each.message for each in status.deployments.values()] if status else []
    lines = [line.strip() for message in messages for line in message.splitlines() if line.strip()]
    # Before it stands the error's type.
    return re.sub(r"^udr[\w.]*Error: ", "", lines[-1]) if lines else reason(error)


def _answers(asked: Any, seconds: float) -> list[Any]:  # noqa: ANN401
    """Return what each replica answers to a broadcast; the exception if it fails, or takes longer."""
    try:
        answers: list[Any] = asked.results(timeout_s=seconds, return_exceptions=True)
    except Exception as error:
        # Of many types, if Ray Serve could ask none.
        return [error]
    return answers


def refuse_partial(answers: Sequence[str | Exception | None]) -> None:
    """Raise a ``ReloadError`` if a replica's answer says that it did not reload."""
    if failed := [answer for answer in answers if answer is not None]:
        why = reason(failed[0]) if isinstance(failed[0], Exception) else failed[0]
        if isinstance(failed[0], TimeoutError):
            why = "it has not answered in time, and may still do so"
        raise ReloadError(f"{len(failed)} of {len(answers)} replicas did not reload: {why}")


def _refuse_to_write() -> None:
    raise NotWriterError(
        "replicas on a Ray cluster do not write; write to a udr serve of the index directory, which they follow"
    )
