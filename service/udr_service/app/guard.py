"""What every request passes before an endpoint answers it, the same for every application."""

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

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
from udr_service.observability import Audit, Metrics
from udr_service.serving import INDEX_VERSION, OVERLAY_POSITION, Clients, Current, Shares
from udr_service.settings import Settings


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
