"""What every application has: its settings for FastAPI, and what a request passes before an endpoint answers it."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from udr import __version__
from udr.client import is_loopback
from udr_service.api.gateway import DEMONSTRATIONS, PROMPT_ID, TASK, TOKENS
from udr_service.auth import Allowance, KeyFile
from udr_service.middleware import (
    REQUEST_ID,
    SERVER_TIMING,
    Access,
    Admission,
    BodyLimit,
    HeadAsGet,
    Queue,
    Recorder,
    RootPath,
)
from udr_service.observability import Audit, Metrics, telemetry
from udr_service.serving import INDEX_VERSION, OVERLAY_POSITION, Clients, Current, Shares
from udr_service.settings import Settings


def new_app(settings: Settings, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]]) -> FastAPI:
    """Return an application without endpoints.

    Args:
        settings: the root path, and whether telemetry is on.
        lifespan: what runs around its requests.

    Raises:
        MissingExtraError: telemetry is on, but the exporter is not installed.
    """
    return FastAPI(
        title="udr",
        version=__version__,
        summary="Retrieve the demonstrations that help your language model most.",
        lifespan=lifespan,
        # Served by a router of ours: FastAPI would make it on the event loop.
        openapi_url=None,
        # Their pages load scripts from other hosts.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        servers=[{"url": settings.root_path}] if settings.root_path else None,
        telemetry=telemetry(settings.telemetry),
    )


def guard(
    app: FastAPI,
    settings: Settings,
    *,
    keys: KeyFile | None,
    queue: Queue,
    current: Current,
    metrics: Metrics,
    audit: Audit,
    shares: Shares,
    own_names_only: bool,
) -> None:
    """Add the middleware. A request passes what is added last first."""
    app.add_middleware(
        BodyLimit,
        limit=settings.max_body_bytes,
        total=settings.max_bodies_bytes,
        seconds=settings.receive_seconds,
        shares=shares,
    )
    app.add_middleware(Admission, clients=Clients(_allowance(settings), shares), queue=queue)
    app.add_middleware(
        Access,
        keys=keys,
        own_names_only=own_names_only,
        origins=settings.cors_origins,
        audit=audit,
        # Without keys, only this machine may write.
        read_only=settings.insecure_no_keys or not is_loopback(settings.host),
    )
    app.add_middleware(HeadAsGet)
    app.add_middleware(Recorder, current=current, metrics=metrics)
    if settings.cors_origins:
        # Outside the recorder, which answers errors: a page can read an error only with these headers.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=[
                *(INDEX_VERSION, OVERLAY_POSITION, REQUEST_ID, SERVER_TIMING, "ETag", "Retry-After"),
                *(DEMONSTRATIONS, PROMPT_ID, TASK, TOKENS),
            ],
        )
    if settings.root_path:
        app.add_middleware(RootPath, root_path=settings.root_path)


def _allowance(settings: Settings) -> Allowance:
    return Allowance(
        settings.client_requests_per_second,
        settings.client_items_per_second,
        settings.client_concurrent_requests,
        settings.client_queue_share,
    )
