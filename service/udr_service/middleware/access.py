"""Access: what a request needs before it is answered: a key, or this machine's own host name and pages."""

from collections.abc import Collection
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from udr_service.auth import GATEWAY, KeyFile, allowed, from_foreign_page, is_own_name, needed, presented
from udr_service.auth import Scope as Scopes
from udr_service.errors import (
    AmbiguousHostError,
    CrossSiteError,
    ForbiddenError,
    ForeignHostError,
    MalformedRequestError,
    UnauthorizedError,
)
from udr_service.observability import Audit, Event
from udr_service.serving import record_of

_ADMITTED = "udr.admitted"


class Access:
    """Passes requests whose API key allows their path; or, without keys, those that no page of another site sent.

    Args:
        app: what answers them.
        keys: the keys; None without keys.
        own_names_only: pass only requests whose ``Host`` header names this machine.
        origins: the other origins whose pages may send requests.
        audit: where refused keys and pages are logged.
        read_only: without keys, refuse writes.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: KeyFile | None,
        own_names_only: bool,
        origins: Collection[str],
        audit: Audit,
        read_only: bool = False,
    ) -> None:
        self._app, self._keys, self._own_names_only, self._read_only = app, keys, own_names_only, read_only
        self._origins, self._audit = frozenset(origins), audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            _check_url(scope)
            self._check_host(headers)
            if self._keys is None:
                self._check_page(scope, headers)
                if self._read_only and needed(scope["path"], scope["method"]) is Scopes.WRITE:
                    raise UnauthorizedError(
                        "other machines can reach this service, so writes need an API key of scope write; start it "
                        "with --keys"
                    )
                scope[_ADMITTED] = True
            elif needed(scope["path"], scope["method"]) is not None:
                self._check_key(self._keys, scope, headers)
                scope[_ADMITTED] = True
        await self._app(scope, receive, send)

    def _check_host(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if len(hosts) > 1:
            # A proxy in front of the service may have read the other one.
            raise AmbiguousHostError(f"the request has {len(hosts)} Host headers; send one")
        if self._own_names_only and not is_own_name("".join(hosts)):
            raise ForeignHostError(
                "without keys, this service accepts only the hosts localhost and 127.0.0.1; found "
                f"{''.join(hosts)[:80]!r}; start it with --keys or --insecure-no-keys"
            )

    def _check_page(self, scope: Scope, headers: Headers) -> None:
        if not from_foreign_page(scope["method"], headers, self._origins):
            return
        self._refused(scope, Event.CROSS_SITE)
        raise CrossSiteError(
            "without keys, this service answers no requests that pages of other sites send; found one of "
            f"{headers.get('origin', 'another site')[:80]!r}; start it with --keys, or add the origin to "
            "UDR_CORS_ORIGINS"
        )

    def _check_key(self, keys: KeyFile, scope: Scope, headers: Headers) -> None:
        path, key = scope["path"], presented(headers, scope["path"])
        entry = None if key is None else keys.ring.entry_of(key)
        if entry is None:
            self._refused(scope, Event.MISSING_KEY if key is None else Event.UNKNOWN_KEY)
            where = " in X-Api-Key" if path == GATEWAY else ""
            found = f"the request has none{where}" if key is None else f"the one{where or ' in the request'} is unknown"
            raise UnauthorizedError(f"this service requires an API key; {found}")
        record_of(scope).entry = entry
        if not allowed(entry.scope, path, scope["method"]):
            self._refused(scope, Event.SCOPE, key_name=entry.name)
            wanted = needed(path, scope["method"])
            raise ForbiddenError(f"the key {entry.name!r} has the scope {entry.scope}; this path requires {wanted}")

    def _refused(self, scope: Scope, event: Event, **details: str) -> None:
        client = scope.get("client")
        self._audit.record(event, client[0] if client else None, **details)


def _check_url(scope: Scope) -> None:
    for part, raw in (("path", scope.get("raw_path")), ("query", scope["query_string"])):
        if raw and b"%" in raw:
            try:
                unquote_to_bytes(raw).decode()
            except UnicodeDecodeError as error:
                # Replaced, the letter of one id would be that of another.
                raise MalformedRequestError(
                    f"the {part} of the URL is not UTF-8 once its percent signs are resolved, as %C3%A9 is; found "
                    f"{raw.decode('latin-1')[:80]!r}"
                ) from error


def admitted(scope: Scope) -> bool:
    """Return whether a request has passed, so that its answer may tell about the index."""
    return _ADMITTED in scope
