"""The application that asks the services of shards: its parts, its limits and its endpoints, put together."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.routing import Route

from udr.client.shards import ShardedClient
from udr.models import TokenCounter, load_tokenizer
from udr_service.api import problems, shards
from udr_service.app.guard import guard, new_app
from udr_service.auth import KeyFile
from udr_service.observability import Audit, Metrics
from udr_service.serving import Current, Preparer, Room, Shares
from udr_service.settings import Settings

_ROUTERS = (shards.probes, shards.router)


def create_shards_app(
    client: ShardedClient,
    settings: Settings | None = None,
    tokenizers: Mapping[str, TokenCounter] | None = None,
    *,
    own_names_only: bool = False,
) -> FastAPI:
    """Return the application that asks the services of shards, and merges their answers.

    Args:
        client: asks them; closed when the application stops.
        settings: the limits; None reads them from the environment.
        tokenizers: count the tokens of prompts, by name; None loads the settings'.
        own_names_only: refuse requests whose ``Host`` header does not name this machine.

    Raises:
        ConfigError: the file of keys is invalid.
        MissingExtraError: telemetry is on, but the exporter is not installed.
        ModelError: a tokenizer cannot be loaded.
    """
    settings = settings or Settings.read()
    metrics = Metrics(route.path for router in _ROUTERS for route in router.routes if isinstance(route, Route))
    current, shares, audit = Current(), Shares(), Audit()
    if tokenizers is None:
        tokenizers = {name: load_tokenizer(name) for name in settings.tokenizer}
    keys = KeyFile(settings.keys) if settings.keys else None
    room = Room(settings.max_bodies_bytes, shares)
    preparer = Preparer(settings.queue_size)
    service = shards.ShardsService(settings, client, preparer, room, metrics, current, tokenizers, keys, audit)
    metrics.index_switched(client.placements.version, client.tasks)
    metrics.count_missing(shard.name for shard in client.placements.shards)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await client.close()
        service.preparer.close()
        audit.close()

    app = new_app(settings, lifespan)
    app.state.service, app.state.audit = service, audit
    guard(
        app,
        settings,
        keys=keys,
        queue=service,
        current=current,
        metrics=metrics,
        audit=audit,
        shares=shares,
        own_names_only=own_names_only,
    )
    for router in _ROUTERS:
        app.include_router(router)
    problems.install(app)
    return app
