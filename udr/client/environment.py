"""The environment of an HTTP client: the variables that httpx2 reads, and errors that name them.

The service uses ``is_loopback`` without a client, so httpx2 is imported where it is used.
"""

import functools
import ipaddress
import os
import ssl
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from udr.errors import ConfigError, reason

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_Http = TypeVar("_Http")


# A server asks about every connection that it takes, and parsing an address takes as long as taking one.
@functools.lru_cache(1024)
def is_loopback(host: str) -> bool:
    """Return whether a host name or address, without brackets, is this machine's loopback."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    # Python 3.11 and 3.12 do not look into addresses such as ::ffff:127.0.0.1.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Return the certificates that a client without TLS has, too: reading them takes longer than all else it opens."""
    import httpx2

    return httpx2.create_ssl_context(trust_env=False)


def open_http(client: Callable[..., _Http], url: str, settings: Mapping[str, Any]) -> _Http:
    """Return an httpx2 client for a URL. This machine's own services are reached directly, whatever the proxies.

    Raises:
        ConfigError: a variable names a proxy or a certificate file that cannot be used.
    """
    import httpx2

    own: dict[str, Any] = {}
    try:
        if is_loopback(httpx2.URL(url).host):
            https = url.startswith("https:")
            own = {"trust_env": False, "verify": httpx2.create_ssl_context() if https else _certificates()}
        return client(**settings, **own)
    except ImportError as error:
        raise ConfigError(
            f"{_variable(_PROXIES, 'socks')}: a SOCKS proxy needs the package socksio; install it, unset the variable, "
            f"or add {httpx2.URL(url).host} to NO_PROXY"
        ) from error
    except OSError as error:
        raise ConfigError(f"{_variable(_CERTIFICATES)}: {reason(error)}; correct or unset the variable") from error
    except (ValueError, httpx2.InvalidURL) as error:
        raise ConfigError(f"{_variable(_PROXIES)}: {reason(error)}; correct or unset the variable") from error


def proxy_for(url: str) -> str | None:
    """Return the environment variable and proxy through which httpx2 sends requests to a URL; None if it does not."""
    parts = urlsplit(url)
    if is_loopback(parts.hostname or "") or proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    scheme = parts.scheme if proxies.get(parts.scheme) else "all"
    return f"{scheme.upper()}_PROXY={_without_password(proxies[scheme])}" if proxies.get(scheme) else None


def _variable(names: tuple[str, ...], part: str = "") -> str:
    """Return the first of these variables that is set to a value with ``part`` in it, with its value."""
    for name in names:
        for spelled in (name, name.lower()):
            value = os.environ.get(spelled, "")
            if value and part in value:
                return f"{spelled}={_without_password(value)}"
    return " or ".join(names)


def _without_password(url: str) -> str:
    start, at, end = url.rpartition("@")
    return f"{start.partition('://')[0]}://***@{end}" if at else url
