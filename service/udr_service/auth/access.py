"""Access: the key that a request presents, the scope that a path needs, and the addresses that need keys."""

import re
from collections.abc import Collection, Mapping
from enum import StrEnum

from udr.client import is_loopback
from udr.errors import ConfigError

PLAYGROUND = "/playground/"
"""The path of the files that the page at ``/`` loads."""

GATEWAY = "/v1/chat/completions"
"""The path whose ``Authorization`` is for the upstream."""

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OPEN = frozenset({"/", "/docs", "/livez", "/readyz", "/v1/openapi.json"})
_ADMIN = frozenset({"/metrics", "/v1/admin"})
_BELOW_ADMIN = "/v1/admin/"
_TASKS = "/v1/tasks/"
# RFC 6750 allows fewer characters; a header carries these unchanged.
_BEARER = re.compile(r"bearer +([!-~]+)", re.IGNORECASE)
_KEY = re.compile(r"[!-~]+")


class Scope(StrEnum):
    """What a key allows."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def includes(self, needed: "Scope") -> bool:
        """Return whether this scope allows what ``needed`` allows: each allows what those before it do."""
        return list(Scope).index(self) >= list(Scope).index(needed)


def presented(headers: Mapping[str, str], path: str = "") -> str | None:
    """Return the key that a request presents; None if there is none, or it is malformed.

    ``Authorization: Bearer KEY`` takes precedence over ``X-Api-Key: KEY``. Other kinds of ``Authorization`` are
    ignored: they may be for a proxy. On the gateway's path all are: they are for the upstream. Header names may have
    any case.
    """
    authorization = None if path == GATEWAY else _single(headers, "authorization")
    if authorization is not None and authorization.partition(" ")[0].lower() == "bearer":
        match = _BEARER.fullmatch(authorization)
        return match[1] if match else None
    key = _single(headers, "x-api-key")
    return key if key is not None and _KEY.fullmatch(key) else None


def needed(path: str, method: str = "GET") -> Scope | None:
    """Return the scope that a request of a path needs; None if it is open. Unknown paths are not open."""
    if path in _OPEN or path.startswith(PLAYGROUND):
        return None
    if path in _ADMIN or path.startswith(_BELOW_ADMIN):
        return Scope.ADMIN
    writes = path.startswith(_TASKS) and method not in _SAFE_METHODS
    return Scope.WRITE if writes else Scope.READ


def allowed(scope: Scope | None, path: str, method: str = "GET") -> bool:
    """Return whether a key of this scope (None without a valid key) allows a request of a path."""
    required = needed(path, method)
    return required is None or (scope is not None and scope.includes(required))


def from_foreign_page(method: str, headers: Mapping[str, str], own_pages: Collection[str]) -> bool:
    """Return whether a page of another site makes a browser send a request that changes something, or costs something.

    Pages need no permission to send one to a service on this machine; they only cannot read the answer. What is not a
    browser sends neither of the headers that tell.

    Args:
        method: GET, HEAD and OPTIONS change nothing and are never refused.
        headers: those of the request, by lowercase name.
        own_pages: the other origins whose pages may, ``*`` for all.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if method in _SAFE_METHODS or "*" in own_pages or origin in own_pages:
        return False
    if site is not None:
        return site not in ("same-origin", "none")
    # Browsers send the other header only to addresses with TLS, and on this machine.
    return origin is not None and origin.partition("://")[2] != headers.get("host")


def refuse_open_address(host: str, has_keys: bool, allowed_without: bool) -> None:
    """Refuse to serve at an address that other machines can reach, unless there are keys or the user allowed it.

    Args:
        host: the address or name to listen on.
        has_keys: requests must present keys.
        allowed_without: the user allowed other machines without keys.

    Raises:
        ConfigError: the address is not a loopback address, and neither applies.
    """
    if has_keys or allowed_without or is_loopback(host):
        return
    raise ConfigError(
        f"without keys, other machines could use the service at {host or 'any address of this machine'}; "
        "set a file of keys with --keys (udr keys new makes one), listen on 127.0.0.1, or allow it with "
        "--insecure-no-keys"
    )


def is_own_name(host: str) -> bool:
    """Return whether a request's ``Host`` header, with or without a port, is a loopback name or address.

    A foreign page can make its own name resolve to 127.0.0.1 and read the responses (DNS rebinding), but its requests
    carry that name.
    """
    bracketed = re.fullmatch(r"\[([^\]]+)\](?::\d+)?", host)
    return is_loopback(bracketed[1] if bracketed else host.partition(":")[0])


def _single(headers: Mapping[str, str], name: str) -> str | None:
    """Return a header's value; None if it is absent or has two different values."""
    values = {value for key, value in headers.items() if key.lower() == name}
    return values.pop() if len(values) == 1 else None
