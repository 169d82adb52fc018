"""Settings: command-line flags, then environment variables, then defaults."""

import json
import logging
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, IPvAnyNetwork, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from udr.errors import ConfigError
from udr.models import Engine
from udr.store.live import Durability
from udr.store.usage import UsageLevel
from udr_service.observability import LogFormat, LogLevel

_LOG = logging.getLogger(__name__)
_PREFIX = "UDR_"
_OWN_PATHS = ("v1", "playground", "livez", "readyz", "metrics")

Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
SecondsOrZero = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _separated(value: object) -> object:
    """Split at commas; a JSON list is read, too."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [origin.strip().rstrip("/") for origin in value.split(",") if origin.strip()]


def _root_path(value: str) -> str:
    """Return a root path as ``/a/b``; an empty one, or ``/``, is none."""
    path = value.strip("/")
    if not path:
        return ""
    if not re.fullmatch(r"[A-Za-z0-9._~/-]+", path) or "//" in path:
        raise ValueError("must be a path of letters, digits, '.', '_', '~' and '-', such as /udr")
    if path.split("/")[0] in _OWN_PATHS:
        raise ValueError(f"must not begin like a path of the service: {', '.join(_OWN_PATHS)}")
    return f"/{path}"


def _without_service_link(value: object) -> object:
    """Return the default for the address that Kubernetes puts into ``UDR_PORT`` beside a service named ``udr``."""
    if isinstance(value, str) and "://" in value:
        _LOG.warning(
            "%sPORT=%s is not a port; it comes from a Kubernetes service named udr, listening on 8000", _PREFIX, value
        )
        return 8000
    return value


def _upstream(value: str | None) -> str | None:
    """Return the URL of the upstream, checked."""
    if value is None:
        return None
    parts = urlsplit(value)
    if parts.username is not None or parts.password is not None:
        raise ValueError("must have no password; set UDR_UPSTREAM_KEY")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise ValueError("must be like http://127.0.0.1:8080/v1")
    return value


class Settings(BaseSettings):
    """The settings of a service. The environment variable ``UDR_MAX_K`` sets ``max_k``, and so on."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    host: str = "127.0.0.1"
    port: Annotated[int, BeforeValidator(_without_service_link), Field(ge=0, le=65_535)] = 8000  # 0 picks a free one
    device: str | None = None  # cpu, cuda, ...; None picks the best available
    engine: Engine | None = None  # what encodes queries; None picks the best for the device
    # The models whose tokenizers count prompt tokens, separated by commas, ideally those that read the prompts. A
    # request names one of them, or the first is used. Without any it is the index's, or else the encoder's.
    tokenizer: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_separated)] = ()
    allow_hub: bool = False  # load the encoder from the Hugging Face hub if the index names it there
    keys: Path | None = None  # the file of API keys; None serves without keys, and this machine only
    insecure_no_keys: bool = False  # serve other machines without keys
    # Origins whose pages may call the service from a browser, separated by commas.
    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_separated)] = ()
    tls_cert: Path | None = None  # a PEM file; None serves plain HTTP
    tls_key: Path | None = None  # the certificate's private key, a PEM file
    workers: Annotated[int, Field(ge=1, le=256)] = 1  # processes that answer, at one port
    runner: Literal["local", "ray"] = "local"  # where it runs: in this process, or as replicas on a Ray cluster
    replicas: Positive = 1  # of --runner ray, each with the encoder and the index
    max_replicas: Positive | None = None  # up to how many there are while requests queue; None is always the same
    replica_requests: Positive = 16  # in flight per replica: with more, there are more replicas; with fewer, fewer
    gpus_per_replica: Annotated[float | None, Field(ge=0)] = None  # None is 1 if the device is a GPU, else 0
    ray_address: str | None = None  # HOST:PORT of the cluster; None is RAY_ADDRESS, or a cluster on this machine alone
    log_level: LogLevel = LogLevel.WARNING
    log_format: LogFormat = LogFormat.JSON
    telemetry: bool = False  # report spans and metrics to OpenTelemetry, at OTEL_EXPORTER_OTLP_ENDPOINT
    max_connections: Positive = 4096  # open at once; at the limit, the one that has waited longest gives way
    max_connections_per_address: Positive = (
        1024  # the same, of one address; not of this machine's, or a trusted proxy's
    )
    # Addresses and networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed, separated by commas.
    trusted_proxies: Annotated[tuple[IPvAnyNetwork, ...], NoDecode, BeforeValidator(_separated)] = ()
    root_path: Annotated[str, AfterValidator(_root_path)] = ""  # what a proxy puts before the paths, such as /udr
    # How long a connection may stay open between requests: longer than proxies keep theirs, most of which do for 60 s.
    keep_alive_seconds: Seconds = 75.0
    receive_seconds: Seconds = 20.0  # how long a request may take to arrive, and an answer to be read on
    max_head_bytes: Positive = 32 * 1024  # request line and headers
    max_body_bytes: Positive = 2 * 1024 * 1024
    max_bodies_bytes: Positive = 12 * 1024 * 1024  # all bodies in flight; more are refused with status 503
    max_values: Positive = 100_000  # values in the JSON of a body
    max_k: Positive = 256  # demonstrations per request
    max_candidates: Positive = 1024  # candidates that a request may choose from, or have explained
    max_batch: Positive = 64  # requests in a batch
    max_budget: Positive = 65_536  # tokens of a prompt's budget
    queue_size: Positive = (
        512  # plain queries that may wait; a costlier one counts as several; more are refused with 429
    )
    encode_batch: Positive = 64  # requests that are encoded at once
    encode_tokens: Positive = 4096  # about how many tokens are encoded at once
    cache_size: Annotated[int, Field(ge=0)] = 4096  # query vectors that are cached; 0 turns the cache off
    # Of one client: a key, else an address, but not one of this machine's. 0 is no limit.
    client_requests_per_second: SecondsOrZero = 0.0
    client_items_per_second: SecondsOrZero = 0.0  # queries, and texts to embed
    client_concurrent_requests: Annotated[int, Field(ge=0)] = 0
    client_queue_share: Annotated[float, Field(gt=0, le=1)] = 0.5  # the share of the queue that may be one client's
    durability: Durability = "disk"  # when a write is acknowledged: once it is on the disk, or once the system has it
    # How many rows that were put or deleted since the version was built make a new version, in the background; 0 never
    # makes one: each takes the room of a version on the disk, and cursors of lists are of one version.
    compact_rows: Annotated[int, Field(ge=0)] = 0
    mirror: str | None = None  # an index on a remote store that gets what is written here, for its replicas
    # What is kept of its use: off, nothing; counts, how often each demonstration is retrieved and shown, and which ones
    # each prompt showed; inputs, the inputs of prompts as well.
    usage: UsageLevel = UsageLevel.COUNTS
    usage_prompts: Positive = 100_000  # prompts that are kept without an outcome, and as many with one
    usage_days: Seconds = 30.0  # how many days they are kept
    timeout_seconds: Seconds = 10.0  # the time limit of a request; its X-Udr-Timeout header may lower it
    watch_seconds: SecondsOrZero = 0.0  # how often to look for a newly published version; 0 reloads on request only
    scrub_seconds: SecondsOrZero = 1.0  # how often to look whether the served files are whole; 0 never looks
    # The gateway: the URL, up to and including /v1, of the OpenAI-compatible server that answers chats; None has none.
    upstream: Annotated[str | None, AfterValidator(_upstream)] = None
    # The operator's key for it; None passes on the Authorization of each request.
    upstream_key: SecretStr | None = None
    upstream_timeout_seconds: Seconds = 600.0  # how long an answer of the upstream may take, to its last byte
    upstream_requests: Positive = 512  # that may wait for the upstream, or be answered by it, at once
    gateway_k: Positive = 8  # demonstrations of a chat that asks for no number
    gateway_min_similarity: float | None = None  # the bound below which a chat gets no demonstration
    gateway_budget: Positive | None = None  # the tokens that demonstrations may add to a chat
    linger_seconds: SecondsOrZero = 0.0  # how long to keep answering, while not ready, after the signal to stop
    drain_seconds: Positive = 10  # how long requests in flight may take after that

    @model_validator(mode="after")
    def _settings_fit_together(self) -> Self:
        if self.max_batch > self.queue_size:
            raise ValueError(f"max_batch ({self.max_batch}) must not be above queue_size ({self.queue_size})")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("set tls_cert and tls_key together, or neither")
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas ({self.max_replicas}) must not be below replicas ({self.replicas})")
        return self

    @classmethod
    def read(cls, **flags: str | int | float | Path | list[str] | None) -> Self:
        """Return the settings from flags (None is absent), environment and defaults.

        Raises:
            ConfigError: a setting is invalid; the message names the first one.
        """
        given: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
        try:
            return cls(**given)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            name = str(first["loc"][0]) if first["loc"] else ""
            message = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
            if not name:
                raise ConfigError(f"settings: {message}") from error
            option = f"--{name.replace('_', '-')} or " if name in flags else ""
            place = f"{name} ({option}{_PREFIX}{name.upper()})"
            raise ConfigError(f"setting {place}: {message}; found {first['input']!r}") from error
