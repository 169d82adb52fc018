"""The settings of a language model's server, ``--lm-set NAME=VALUE``: its key, headers, body fields and rates."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from udr.errors import ConfigError
from udr.types import Json
from udr_training.answering.server.address import KEY, WORKER_KEY, read_address, read_secret

_NUMBERS = {"concurrency": (1, 1024), "attempts": (1, 100), "timeout": (0.1, 86_400), "requests_per_minute": (0.1, 1e6)}
_NAMES = ("key", *_NUMBERS, "body.FIELD", "header.NAME", "query.NAME")
_LIMITS = ("max_tokens", "max_completion_tokens")
_SECRET = re.compile(r"auth|key|token|secret|cookie", re.IGNORECASE)
# Of fields such as max_tokens or prompt_cache_key, few are secrets.
_SECRET_FIELD = re.compile(r"\A(key|token)\Z|(api|access).?(key|token)|secret|password|authorization", re.IGNORECASE)
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerSettings:
    """How a server is asked.

    Attributes:
        key: the environment variable of its API key.
        concurrency: the largest number of open requests.
        attempts: how often a request that fails is sent.
        timeout: seconds that a response may take.
        requests_per_minute: the most requests that are sent in a minute; None for no limit.
        body: fields of every request's body, which replace udr's own; a field that is None is left out; a value
            ``$NAME`` of a field whose name says that it is a secret is that of an environment variable.
        headers: of every request; a value ``$NAME`` is that of an environment variable.
        query: parameters of every request's URL; values as in ``headers``.
    """

    key: str = KEY
    concurrency: int = 8
    attempts: int = 6
    timeout: float = 120.0
    requests_per_minute: float | None = None
    body: Mapping[str, Json] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def asked(self) -> dict[str, Json]:
        """The settings that answers depend on."""
        headers: dict[str, Json] = {"headers": dict(self.plain_headers)} if self.plain_headers else {}
        return {"body": dict(self.body), "query": dict(self.query), **headers}

    @property
    def plain_headers(self) -> dict[str, str]:
        """The headers that are no secrets, by names in lower case: by one, a router may choose who answers."""
        return {name.lower(): value for name, value in self.headers.items() if not value.startswith("$")}

    @property
    def num_answers(self) -> int:
        """The answers that a request gets and that are paid for, of which the first is read."""
        return max(1, *(value for name in ("n", "best_of") if isinstance(value := self.body.get(name, 1), int)))

    def longest(self, max_tokens: int) -> int | None:
        """Return the most tokens of an answer of which udr's own limit is ``max_tokens``; None if nothing limits it."""
        body = {"max_tokens": max_tokens, **self.body}
        limits = [value for name in _LIMITS if isinstance(value := body.get(name), int)]
        # To llama.cpp, -1 is no limit.
        return max((limit for limit in limits if limit > 0), default=None)

    def for_worker(self, lm: str, worker: str) -> "ServerSettings":
        """Return how a second server is asked: without the key, headers and query of the first, unless it is the same.

        Nor does it get fields of the body that are secrets.

        Args:
            lm: the address of the first, whose settings these are.
            worker: the address of the second.
        """
        if read_address(worker).origin == read_address(lm).origin:
            return self
        body = {name: value for name, value in self.body.items() if not _SECRET_FIELD.search(name)}
        return replace(self, key=WORKER_KEY, headers={}, query={}, body=body)

    def secret_headers(self) -> dict[str, str]:
        """Return the headers, with the values of environment variables and the key.

        Raises:
            ConfigError: a variable that a header names is not set, or has characters that a header cannot have.
        """
        headers = _with_secrets("header", self.headers)
        key = read_secret(self.key)
        if key is None and self.key not in (KEY, WORKER_KEY):
            raise ConfigError(f"--lm-set key: the environment variable {self.key} is not set")
        return headers if key is None else {"Authorization": f"Bearer {key}", **headers}

    def secret_query(self) -> dict[str, str]:
        """Return the query with the values of environment variables; errors as ``secret_headers``."""
        return _with_secrets("query", self.query)

    def secret_body(self) -> dict[str, str]:
        """Return the fields of the body that are secrets, as ``secret_query``."""
        secrets = {name: value for name, value in self.body.items() if _SECRET_FIELD.search(name)}
        return _with_secrets("body", {name: value for name, value in secrets.items() if isinstance(value, str)})


def read_settings(lines: Sequence[str]) -> ServerSettings:
    """Return the settings of lines ``NAME=VALUE``.

    Args:
        lines: the names are ``key``, ``concurrency``, ``attempts``, ``timeout``, ``requests_per_minute``,
            ``body.FIELD`` (its value is JSON, or else a text), ``header.NAME`` and ``query.NAME``.

    Raises:
        ConfigError: a name is unknown or given twice, a value is out of range, or a secret would be written down.
    """
    values, tables = dict[str, str](), dict[str, dict[str, str]](body={}, header={}, query={})
    for line in lines:
        name, equals, value = line.partition("=")
        table, dot, key = name.partition(".")
        if not equals or not name or (dot and not key):
            raise ConfigError(f"--lm-set must be NAME=VALUE, such as body.top_p=0.9; found {line!r}")
        place = tables.get(table, {}) if dot else values
        if (dot and table not in tables) or (not dot and name not in _NAMES):
            raise ConfigError(f"--lm-set: unknown name {name!r}; the names are {', '.join(_NAMES)}")
        name = key if dot else name
        if name in place:
            raise ConfigError(f"--lm-set: {line.partition('=')[0]} is given twice")
        place[name] = value
    for name, value in tables["header"].items():
        _check_header(name, value)
    for table, secret in (("header", _SECRET), ("query", _SECRET), ("body", _SECRET_FIELD)):
        for name, value in tables[table].items():
            is_text = table != "body" or isinstance(_json(value), str)
            if secret.search(name) and is_text and not value.startswith("$"):
                raise ConfigError(
                    f"--lm-set {table}.{name}: put the secret into an environment variable and give its name as $NAME, "
                    "since settings are written into run directories"
                )
    numbers = {name: _number(name, values[name]) for name in _NUMBERS if name in values}
    return ServerSettings(
        key=values.get("key", KEY),
        concurrency=int(numbers.get("concurrency", 8)),
        attempts=int(numbers.get("attempts", 6)),
        timeout=numbers.get("timeout", 120.0),
        requests_per_minute=numbers.get("requests_per_minute"),
        body={name: _json(value) for name, value in tables["body"].items()},
        headers=tables["header"],
        query=tables["query"],
    )


def _check_header(name: str, value: str) -> None:
    if not _HEADER.fullmatch(name) or not (value.isascii() and value.isprintable() and value):
        raise ConfigError(f"--lm-set header.{name}: a header needs a name and a value in printable ASCII")


def _with_secrets(table: str, values: Mapping[str, str]) -> dict[str, str]:
    """Return the values of a table, those of environment variables in place of their names."""
    found = dict[str, str]()
    for name, value in values.items():
        secret = read_secret(value[1:]) if value.startswith("$") else value
        if secret is None:
            raise ConfigError(f"--lm-set {table}.{name}: the environment variable {value[1:]} is not set")
        found[name] = secret
    return found


def _number(name: str, value: str) -> float:
    low, high = _NUMBERS[name]
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    whole = name in ("concurrency", "attempts")
    # NaN compares as false, too.
    if not low <= number <= high or (whole and number != int(number)):
        kind = "a whole number" if whole else "a number"
        raise ConfigError(f"--lm-set {name} must be {kind} from {low:g} to {high:g}, found {value!r}")
    return number


def _json(value: str) -> Json:
    try:
        parsed: Json = json.loads(value)
    except ValueError:
        return value
    return parsed
