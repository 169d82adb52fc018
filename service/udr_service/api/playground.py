"""The playground: a page at ``/`` to try the service in a browser. It loads nothing from other hosts."""

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from udr_service.auth import PLAYGROUND

_PAGE = "page.html"
_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Cached, but revalidated each time: an upgrade of udr shows at once.
    "Cache-Control": "no-cache",
}
"""The headers of the page and its files: no foreign hosts, no inline scripts."""

router = APIRouter(include_in_schema=False)


@router.get("/")
async def page(request: Request) -> Response:
    """Return the page."""
    return _answer(request, _PAGE)


@router.get(PLAYGROUND + "{file}")
async def page_file(request: Request, file: str) -> Response:
    """Return a file of the page."""
    if file == _PAGE or file not in _contents():
        raise HTTPException(404, "the playground has no such file")
    return _answer(request, file)


def _answer(request: Request, file: str) -> Response:
    content, tag = _contents()[file]
    headers = {**HEADERS, "ETag": tag}
    known = [item.strip().removeprefix("W/") for item in request.headers.get("If-None-Match", "").split(",")]
    if tag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=_TYPES[Path(file).suffix])


@cache
def _contents() -> Mapping[str, tuple[bytes, str]]:
    """Return the page's files and ETags by name. Nothing else is served, so no name reaches another file."""
    entries = files("udr_service").joinpath("static").iterdir()
    contents = {entry.name: entry.read_bytes() for entry in entries if Path(entry.name).suffix in _TYPES}
    return {name: (content, f'"{hashlib.sha256(content).hexdigest()[:16]}"') for name, content in contents.items()}
