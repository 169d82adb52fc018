"""What a service can be told: by a flag, else by the environment, else a default."""

from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from udr.errors import ConfigError

_PREFIX = "UDR_"

Positive = Annotated[int, Field(ge=1)]


class Settings(BaseSettings):
    """The settings of a service; each may come from the environment, as ``UDR_`` and its name in capitals.

    Attributes:
        host: the address to listen on.
        port: the port to listen on; 0 picks a free one.
        device: where the encoder runs: ``cpu``, ``cuda``, ...; None takes the best there is.
        tokenizer: the name of the tokenizer that counts the tokens of prompts, best that of the language model
            that reads them; None takes the encoder's.
        max_body_bytes: bytes of a request's body.
        max_k: demonstrations of one request.
        max_batch: requests of one batch.
        max_budget: tokens of a prompt's budget.
        queue_size: requests that may wait to be encoded; more are refused with 429.
        encode_batch: requests that are encoded at once.
        drain_seconds: how long requests in flight may take after the service was told to end.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    device: str | None = None
    tokenizer: str | None = None
    max_body_bytes: Positive = 2 * 1024 * 1024
    max_k: Positive = 256
    max_batch: Positive = 64
    max_budget: Positive = 131_072
    queue_size: Positive = 512
    encode_batch: Positive = 64
    drain_seconds: Positive = 10

    @model_validator(mode="after")
    def _batch_fits_queue(self) -> Self:
        if self.max_batch > self.queue_size:
            raise ValueError(f"max_batch ({self.max_batch}) must not be above queue_size ({self.queue_size})")
        return self

    @classmethod
    def read(cls, **flags: str | int | None) -> Self:
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
