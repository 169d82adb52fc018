"""The application: an index, its limits and its endpoints put together. Nothing is global."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route

from udr import __version__
from udr.models import TokenCounter, load_tokenizer
from udr.retrieval import Retriever
from udr_service.api import admin, embeddings, playground, probes, problems, retrieval
from udr_service.auth import KeyFile
from udr_service.middleware import Access, BodyLimit, Recorder, TrustedHosts
from udr_service.observability import Metrics, telemetry
from udr_service.serving import ActiveVersion, Counts, Current, JobResult, Reloader, Service, Source, Worker
from udr_service.settings import Settings

_ROUTERS = (probes, retrieval.router, embeddings.router, admin, playground.router)


def create_app(
    served: Retriever | Source,
    settings: Settings | None = None,
    tokenizer: TokenCounter | None = None,
    counts: Counts | None = None,
    *,
    own_names_only: bool = False,
) -> FastAPI:
    """Return the application that serves an index.

    Args:
        served: an open retriever, which whoever opened it closes; or a source of versions, whose published one is
            loaded when the application starts, while it already says that it lives.
        settings: the limits; None reads them from the environment.
        tokenizer: counts the tokens of prompts over an open retriever; None takes the one that the settings name, else
            the encoder's.
        counts: of the encoder's cache, for the metrics.
        own_names_only: refuse requests that were sent to another name than this machine's for itself.

    Raises:
        ConfigError: the file of keys makes no sense.
        MissingExtraError: telemetry is asked for, and what exports it is not installed.
        ModelError: the tokenizer cannot be loaded.
    """
    settings = settings or Settings.read()
    keys = KeyFile(settings.keys) if settings.keys else None
    current, metrics = Current(), Metrics(_templates())
    worker = Worker(
        queue_size=settings.queue_size,
        batch_size=settings.encode_batch,
        batch_tokens=settings.encode_tokens,
        told=_Teller(metrics, counts or Counts()),
    )
    source = None if isinstance(served, Retriever) else served
    reloader = Reloader(source, current, worker, keys, metrics)
    if isinstance(served, Retriever):
        tokenizer = tokenizer or load_tokenizer(settings.tokenizer or served.tokenizer)
        reloader.switch(ActiveVersion(served, tokenizer, lent=True))
    service = Service(settings, current, worker, reloader, metrics)

    app = FastAPI(
        title="udr",
        version=__version__,
        summary="The demonstrations that help your language model most.",
        lifespan=_lifespan(service, source),
        openapi_url="/v1/openapi.json",
        # Their pages load scripts from other hosts.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=telemetry(settings.telemetry),
    )
    app.state.service = service
    # The last one added is the first that a request passes.
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes)
    if keys is not None:
        app.add_middleware(Access, keys=keys)
    if own_names_only:
        app.add_middleware(TrustedHosts)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.cors_origins, allow_methods=["*"], allow_headers=["*"]
        )
    app.add_middleware(Recorder, current=current, metrics=metrics)
    for router in _ROUTERS:
        app.include_router(router)
    problems.install(app)
    return app


def _templates() -> Iterator[str]:
    for router in _ROUTERS:
        yield from (route.path for route in router.routes if isinstance(route, Route))


class _Teller:
    """Tells the metrics of every batch."""

    def __init__(self, metrics: Metrics, counts: Counts) -> None:
        self._metrics, self._counts, self._told = metrics, counts, Counts()

    def __call__(self, done: Sequence[JobResult]) -> None:
        stages, told = done[0].stages, self._told
        self._metrics.batch_encoded(stages.size, stages.tokens)
        now = Counts(self._counts.hits, self._counts.shared, self._counts.misses)
        self._metrics.cache_hit(now.hits - told.hits)
        self._metrics.duplicate_joined(now.shared - told.shared)
        self._metrics.cache_missed(now.misses - told.misses)
        self._told = now


def _lifespan(service: Service, source: Source | None) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        looking = asyncio.create_task(_look_after(service)) if source is not None else None
        yield
        if looking is not None:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking
        service.worker.close()
        service.current.switch(None)

    return lifespan


async def _look_after(service: Service) -> None:
    await service.reloader.start()
    if service.current.version is not None and service.settings.watch_seconds:
        await service.reloader.watch(service.settings.watch_seconds)
