"""The name of the model that a server is asked for."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from udr.errors import ConfigError, FeedbackError
from udr_training.answering.server.address import LMAddress
from udr_training.answering.server.http import RefusedError, Server
from udr_training.answering.server.paid import PaidAnswers

_LOG = logging.getLogger(__name__)

# Responses to GET /models of servers that have no such endpoint.
_NO_LIST = (400, 404, 405, 422, 501)


class ModelName:
    """The address names the model, or the server has only one; its name is kept with its answers.

    Args:
        address: the server's.
        server: is asked for its models, once.
        paid: keeps the name.
    """

    def __init__(self, address: LMAddress, server: Server, paid: PaidAnswers) -> None:
        self._address, self._server, self._paid = address, server, paid
        self._checked = address.model is not None

    @property
    def known(self) -> str | None:
        """The name as far as it is known without asking; empty if the server does not tell."""
        return self._address.model or self._paid.model(self._address.url)

    def check(self) -> None:
        """Find the name of the server's only model, or check that it is the one of the kept answers.

        A server that has no list of models is asked without a name.

        Raises:
            ConfigError: the server has several models, or another one than before.
            FeedbackError: the server fails.
        """
        if self._checked:
            return
        self._checked = True
        url, known = self._address.url, self._paid.model(self._address.url)
        names = asyncio.run(self._list())
        if names is not None and len(names) != 1:
            listed = ", ".join(names[:20]) or "none"
            raise ConfigError(f"{url} serves {len(names)} models; name one with ?model=NAME: {listed}")
        if names is None:
            _LOG.warning("%s has no list of models; it is asked without a model's name", url)
        name = names[0] if names else ""
        if known is not None and known != name:
            raise ConfigError(
                f"{self._paid.path} has answers of {known or 'a model without a name'}, but {url} now serves "
                f"{name or 'one without a name'}; give another output, or name the model with ?model=NAME"
            )
        self._paid.set_model(url, name)

    async def _list(self) -> list[str] | None:
        """Return the names of the server's models; None if it has no list of them."""
        body: Any
        try:
            async with self._server.open() as send:
                body = await send("/models", None)
        except RefusedError as error:
            if error.status in _NO_LIST:
                return None
            raise
        except FeedbackError as error:
            raise FeedbackError(f"{error}; no list is needed with ?model=NAME") from error
        models = body.get("data") if isinstance(body, Mapping) else None
        models = models if isinstance(models, list) else []
        return [str(model["id"]) for model in models if isinstance(model, Mapping) and "id" in model]
