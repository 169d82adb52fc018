"""The application that serves an index: its parts, its limits and its endpoints, put together."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from fastapi import FastAPI
from starlette.routing import Route

from udr.models import TokenCounter, load_tokenizer
from udr.retrieval import Retriever
from udr.store.usage import Usage
from udr_service.api import (
    admin,
    demonstrations,
    embeddings,
    gateway,
    outcomes,
    playground,
    probes,
    problems,
    retrieval,
)
from udr_service.api.gateway import Upstream
from udr_service.app.guard import guard, new_app
from udr_service.auth import KeyFile
from udr_service.observability import Audit, Metrics, Upkeep
from udr_service.serving import (
    ActiveVersion,
    Compactor,
    Current,
    FieldReader,
    IndexSource,
    Mirror,
    Preparer,
    Readiness,
    Reloader,
    Room,
    Scrubber,
    Service,
    Shares,
    Source,
    Team,
    Worker,
)
from udr_service.settings import Settings

_ROUTERS = (
    *(retrieval.router, probes, demonstrations.router, outcomes.router, embeddings.router, admin),
    playground.router,
)


def create_app(
    served: Retriever | Source,
    settings: Settings | None = None,
    tokenizer: TokenCounter | None = None,
    *,
    own_names_only: bool = False,
    team: Team | None = None,
) -> FastAPI:
    """Return the application that serves an index.

    Args:
        served: an open retriever, which the caller closes; or a source of versions. A source's published version is
            loaded when the application starts; until then the service is alive but not ready.
        settings: the limits; None reads them from the environment.
        tokenizer: counts the tokens of prompts over an open retriever, unless a request names one of the settings';
            None uses the settings' first, else the encoder's.
        own_names_only: refuse requests whose ``Host`` header does not name this machine.
        team: the other workers that serve the same index; None if there are none.

    Raises:
        ConfigError: the file of keys is invalid, or the mirror is.
        MissingExtraError: telemetry is on, but the exporter is not installed.
        ModelError: the tokenizer cannot be loaded.
    """
    settings = settings or Settings.read()
    keys = team.keys if team is not None else KeyFile(settings.keys) if settings.keys else None
    routers = (*_ROUTERS, gateway.router) if settings.upstream else _ROUTERS
    metrics = Metrics(route.path for router in routers for route in router.routes if isinstance(route, Route))
    current, shares = Current(), Shares() if team is None else team.shares
    worker = Worker(
        queue_size=settings.queue_size,
        batch_size=settings.encode_batch,
        batch_tokens=settings.encode_tokens,
        on_batch=metrics.batch_encoded,
        shares=shares,
    )
    source = None if isinstance(served, Retriever) else served
    audit = Audit()
    upstream = Upstream(settings, shares) if settings.upstream else None
    reloader = Reloader(source, current, worker, keys, metrics, audit, team)
    if isinstance(served, Retriever):
        named = {name: load_tokenizer(name) for name in settings.tokenizer}
        tokenizer = tokenizer or next(iter(named.values()), None) or load_tokenizer(served.tokenizer)
        reloader.switch(ActiveVersion(served, tokenizer, lent=True, named=named))
    room = Room(settings.max_bodies_bytes, shares)
    usage = Usage(
        _root(served),
        settings.usage,
        prompts=settings.usage_prompts,
        days=settings.usage_days,
        on_failure=partial(metrics.upkeep_failed, Upkeep.USAGE),
    )
    log_reader = ThreadPoolExecutor(1, thread_name_prefix="udr-log")
    preparer = Preparer(settings.queue_size)
    service = Service(
        settings, current, worker, preparer, FieldReader(), room, reloader, metrics, usage, log_reader, team
    )

    app = new_app(settings, _lifespan)
    app.state.service, app.state.readiness, app.state.audit = service, Readiness(), audit
    app.state.upstream = upstream
    app.state.upkeep = [Scrubber(current, reloader, settings.scrub_seconds, team)]
    if isinstance(source, IndexSource):
        failed = partial(metrics.upkeep_failed, Upkeep.COMPACTION)
        app.state.upkeep.append(Compactor(source, current, reloader, team, on_failure=failed))
        if settings.mirror is not None:
            failed = partial(metrics.upkeep_failed, Upkeep.MIRROR)
            app.state.upkeep.append(Mirror(source, settings.mirror, team, on_failure=failed))
    guard(
        app,
        settings,
        keys=keys,
        queue=worker,
        current=current,
        metrics=metrics,
        audit=audit,
        shares=shares,
        own_names_only=own_names_only,
    )
    for router in routers:
        app.include_router(router)
    app.state.made = {}
    problems.install(app)
    return app


def _root(served: Retriever | Source) -> Path | None:
    """Return the index directory, which the counts of its use are in; None if there is none."""
    return served.root if isinstance(served, Retriever) else served.index


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    tasks = [
        asyncio.create_task(service.reloader.run(service.settings.watch_seconds)),
        *(asyncio.create_task(part.run()) for part in app.state.upkeep),
    ]
    yield
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task
    if app.state.upstream is not None:
        await app.state.upstream.close()
    service.worker.close()
    service.preparer.close()
    service.field_reader.close()
    service.log_reader.shutdown()
    service.current.switch(None)
    await asyncio.to_thread(service.usage.close)
    app.state.audit.close()
