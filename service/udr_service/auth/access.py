"""Access: the key that a request presents, what each path asks for, and the addresses that keys must guard."""

import functools
import ipaddress
import re
from collections.abc import Mapping

from udr.errors import ConfigError
from udr_service.auth.keys import Scope

PLAYGROUND = "/playground/"
"""Below it lie the files of the page at ``/``."""

_OPEN = frozenset({"/", "/livez", "/readyz", "/v1/openapi.json"})
_ADMIN = frozenset({"/metrics", "/v1/admin"})
_ADMIN_BELOW = "/v1/admin/"
# RFC 6750 has fewer characters; these are all that a header carries unchanged.
_BEARER = re.compile(r"bearer +([!-~]+)", re.IGNORECASE)
_KEY = re.compile(r"[!-~]+")


def presented(headers: Mapping[str, str]) -> str | None:
    """Return the key that a request presents, or None where it presents none, or none in good form.

    ``Authorization: Bearer KEY`` goes before ``X-Api-Key: KEY``. Other kinds of ``Authorization`` are not for us: a
    proxy may ask for them.

    Args:
        headers: by name, in any case.
    """
    authorization = _only(headers, "authorization")
    if authorization is not None and authorization.partition(" ")[0].lower() == "bearer":
        found = _BEARER.fullmatch(authorization)
        return found[1] if found else None
    key = _only(headers, "x-api-key")
    return key if key is not None and _KEY.fullmatch(key) else None


def needed(path: str) -> Scope | None:
    """Return the scope that a path asks for, or None where it is open to all. What is not listed is not open."""
    if path in _OPEN or path.startswith(PLAYGROUND):
        return None
    return Scope.ADMIN if path in _ADMIN or path.startswith(_ADMIN_BELOW) else Scope.READ


def allowed(scope: Scope | None, path: str) -> bool:
    """Say whether a path may be asked for.

    Args:
        scope: of the key that was presented; None where there was no key of ours.
        path: without its query.
    """
    asked = needed(path)
    return asked is None or (scope is not None and scope.includes(asked))


def refuse_open_address(host: str, has_keys: bool, allowed_without: bool) -> None:
    """Refuse to answer on an address that others can reach, where neither keys nor the user's word allow it.

    Args:
        host: the address, or the name, to listen on.
        has_keys: whether requests must present keys.
        allowed_without: whether the user said that others may ask without.

    Raises:
        ConfigError: the address is not known to be this machine's own, and there is nothing that allows it.
    """
    if has_keys or allowed_without or _is_loopback(host):
        return
    raise ConfigError(
        f"whoever can reach {host or 'any address of this machine'} could ask, as no keys are given; give a file of "
        "keys with --keys (udr keys new makes one), listen on 127.0.0.1, or allow it with --insecure-no-keys"
    )


def is_own_name(host: str) -> bool:
    """Say whether a request's ``Host`` names this machine as only it can be named from within.

    A page of another site can have its own name lead to 127.0.0.1, and then read what is answered there; but its
    requests carry that name.

    Args:
        host: the header: a name or an address, perhaps with a port.
    """
    bracketed = re.fullmatch(r"\[([^\]]+)\](?::\d+)?", host)
    return _is_loopback(bracketed[1] if bracketed else host.partition(":")[0])


def _only(headers: Mapping[str, str], name: str) -> str | None:
    """Return a header's value; None where it is absent, or sent with two: nobody could say which was meant."""
    values = {value for key, value in headers.items() if key.lower() == name}
    return values.pop() if len(values) == 1 else None


@functools.lru_cache(maxsize=64)
def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    # Python 3.11 and 3.12 do not look into addresses such as ::ffff:127.0.0.1.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
