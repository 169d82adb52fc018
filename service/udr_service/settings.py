"""What a service can be told: by a flag, else by the environment, else a default."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from udr.errors import ConfigError
from udr_service.observability import LogFormat, LogLevel

_PREFIX = "UDR_"

Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of a service; each may come from the environment, as ``UDR_`` and its name in capitals.

    Attributes:
        host: the address to listen on.
        port: the port to listen on; 0 picks a free one.
        device: where the encoder runs: ``cpu``, ``cuda``, ...; None takes the best there is.
        tokenizer: the name of the tokenizer that counts the tokens of prompts, best that of the language model
            that reads them; None takes the encoder's.
        engine: what encodes queries; None takes the best for the device, see ``udr.query_engines``.
        keys: the file of API keys; None asks for none, and is refused where others than this machine can ask.
        insecure_no_keys: whether they may, all the same.
        cors_origins: pages of these origins may ask from a browser; none by default.
        tls_cert: the certificate that is shown, a PEM file; None speaks plain HTTP.
        tls_key: its private key, a PEM file.
        log_level: what is logged: ``debug``, ``info``, ``warning`` or ``error``.
        log_format: ``json`` or ``text``.
        telemetry: whether FastAPI reports spans and metrics to OpenTelemetry, at ``OTEL_EXPORTER_OTLP_ENDPOINT``.
        max_body_bytes: bytes of a request's body.
        max_k: demonstrations of one request.
        max_candidates: demonstrations that one request may choose from, or have explained.
        max_batch: requests of one batch.
        max_budget: tokens of a prompt's budget.
        queue_size: requests that may wait to be encoded; more are refused with 429.
        encode_batch: requests that are encoded at once.
        encode_tokens: about how many tokens are encoded at once.
        cache_size: vectors of queries that are kept; 0 keeps none.
        timeout_seconds: how long a request may take, unless it says so itself.
        watch_seconds: how often to look whether another version is published; 0 waits to be told.
        linger_seconds: how long the service, told to end, still takes requests while it is not ready.
        drain_seconds: how long requests in flight may take after that.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    device: str | None = None
    engine: str | None = None
    tokenizer: str | None = None
    keys: Path | None = None
    insecure_no_keys: bool = False
    cors_origins: tuple[str, ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    log_level: LogLevel = LogLevel.WARNING
    log_format: LogFormat = LogFormat.JSON
    telemetry: bool = False
    max_body_bytes: Positive = 2 * 1024 * 1024
    max_k: Positive = 256
    max_candidates: Positive = 1024
    max_batch: Positive = 64
    max_budget: Positive = 131_072
    queue_size: Positive = 512
    encode_batch: Positive = 64
    encode_tokens: Positive = 4096
    cache_size: Annotated[int, Field(ge=0)] = 4096
    timeout_seconds: Seconds = 10.0
    watch_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    linger_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    drain_seconds: Positive = 10

    @model_validator(mode="after")
    def _batch_fits_queue(self) -> Self:
        if self.max_batch > self.queue_size:
            raise ValueError(f"max_batch ({self.max_batch}) must not be above queue_size ({self.queue_size})")
        return self

    @model_validator(mode="after")
    def _certificate_has_key(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together")
        return self

    @classmethod
    def read(cls, **flags: str | int | float | Path | None) -> Self:
        """Return the settings; a flag that is None was not given.

        Raises:
            ConfigError: a value makes no sense; the message names the first such setting.
        """
        given: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
        try:
            return cls(**given)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            name = "".join(str(part) for part in first["loc"])
            place = f"{name} (flag --{name} or {_PREFIX}{name.upper()}): " if name else ""
            raise ConfigError(f"setting {place}{first['msg']}; found {first['input']!r}") from error
