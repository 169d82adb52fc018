"""The application: a retriever, its limits and its endpoints put together. Nothing is global."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from udr import __version__
from udr.retriever import Retriever
from udr.tokenizer import TokenCounter, load_tokenizer
from udr_service import problems
from udr_service.middleware import BodyLimit, IndexVersionHeader
from udr_service.routes import probes, router
from udr_service.service import Service
from udr_service.settings import Settings
from udr_service.worker import Worker


def create_app(
    retriever: Retriever, settings: Settings | None = None, tokenizer: TokenCounter | None = None
) -> FastAPI:
    """Return the application that serves a retriever.

    Args:
        retriever: what is served; whoever opened it closes it.
        settings: the limits; None reads them from the environment.
        tokenizer: counts the tokens of prompts; None takes the one that the settings name, else the encoder's.

    Raises:
        ModelError: the tokenizer cannot be loaded.
    """
    settings = settings or Settings.read()
    tokenizer = tokenizer or load_tokenizer(settings.tokenizer or retriever.tokenizer)
    worker = Worker(retriever, queue_size=settings.queue_size, batch_size=settings.encode_batch)
    service = Service(retriever, worker, tokenizer, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        worker.close()

    app = FastAPI(
        title="udr",
        version=__version__,
        summary="The demonstrations that help your language model most.",
        lifespan=lifespan,
        openapi_url="/v1/openapi.json",
        # Their pages load scripts from other hosts.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # They would hold the inputs of requests that do not fit their schema.
        telemetry={"logs": False},
    )
    app.state.service = service
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes)
    app.add_middleware(IndexVersionHeader, version=service.index_version)
    app.include_router(probes)
    app.include_router(router)
    problems.install(app)
    return app
