"""The address of a language model's server, ``http://HOST/v1?model=NAME&api=chat``, and the key for it."""

import os
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

from udr.errors import ConfigError

KEY = "UDR_LM_KEY"
"""The environment variable of the server's API key, unless a setting names another."""

WORKER_KEY = "UDR_WORKER_LM_KEY"
"""That of a second server, to which the first one's key must not go."""

_PORTS = {"http": 80, "https": 443}

# What a model's name may have as it is in an address.
_PLAIN = "/:@,"
_OPTIONS = ("model", "api", "characters")


class Api(StrEnum):
    """What a server is asked by."""

    COMPLETIONS = "completions"
    """A text that the model continues, ``/completions``."""

    CHAT = "chat"
    """Chat messages, ``/chat/completions``."""


@dataclass(frozen=True, slots=True)
class LMAddress:
    """The address of a language model.

    Attributes:
        url: the server's, up to and including ``/v1``.
        model: the model's name on the server; None for the only one.
        api: what the server is asked by.
        characters: the longest text that the model takes, for feedback by completions; None for no limit.
    """

    url: str
    model: str | None = None
    api: Api = Api.COMPLETIONS
    characters: int | None = None

    @property
    def origin(self) -> tuple[str, str | None, int | None]:
        """The server's scheme, host and port, to which a key belongs."""
        parts = urlsplit(self.url)
        return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)

    def __str__(self) -> str:
        options = {"model": self.model, "api": self.api.value if self.api is Api.CHAT else None}
        given = "&".join(f"{name}={quote(value, safe=_PLAIN)}" for name, value in options.items() if value)
        return f"{self.url}?{given}" if given else self.url


def is_remote(name: str) -> bool:
    """Return whether a language model's name is a server's URL."""
    return name.startswith(("http://", "https://"))


def read_address(name: str) -> LMAddress:
    """Return the parts of an address such as ``http://127.0.0.1:8000/v1?model=NAME&api=chat``.

    Raises:
        ConfigError: the address is invalid.
    """
    shown = name if "@" not in name else "an address with a password"
    expected = (
        "a remote language model must be named like http://127.0.0.1:8000/v1?model=NAME or "
        f"http://127.0.0.1:8000/v1?model=NAME&api=chat, found {shown!r}"
    )
    try:
        parts = urlsplit(name)
        host, _ = parts.hostname, parts.port
        options = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise ConfigError(f"{expected}: {error}") from error
    if "@" in parts.netloc:
        raise ConfigError(f"the address of a language model must not contain a password; put the key in {KEY}")
    if not is_remote(name) or not host or options.keys() - set(_OPTIONS):
        raise ConfigError(expected)
    if repeated := [option for option, values in options.items() if len(values) > 1]:
        raise ConfigError(f"{expected}: {repeated[0]}= is given twice")
    given = {option: values[0] for option, values in options.items()}
    if given.get("api", Api.COMPLETIONS) not in list(Api):
        raise ConfigError(f"api= must be one of {', '.join(Api)}; found {name!r}")
    characters = given.get("characters")
    if characters is not None and not (characters.isdecimal() and int(characters)):
        raise ConfigError(f"characters= must be a number above 0, the longest text the model takes; found {name!r}")
    url = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
    api = Api(given.get("api", Api.COMPLETIONS))
    return LMAddress(url, given.get("model") or None, api, int(characters) if characters else None)


def read_secret(variable: str) -> str | None:
    """Return the value of an environment variable for a header; None if it is empty or not set.

    Raises:
        ConfigError: it has characters that a header cannot have.
    """
    value = os.environ.get(variable, "").strip() or None
    if value is not None and not (value.isascii() and value.isprintable()):
        raise ConfigError(f"{variable} contains characters that an API key cannot have; set it to the key only")
    return value
