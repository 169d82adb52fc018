"""A feedback language model behind an OpenAI-compatible ``/v1/completions``: vLLM, SGLang, llama-cpp-python, ...

Such a server echoes a prompt with the log-probability of each of its tokens. Many return wrong numbers or none without
an error, so a server must first pass a check on known texts (``sanity_check``).
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from udr.errors import ConfigError, FeedbackError
from udr_training.answering import (
    Api,
    Meter,
    RequestPolicy,
    Send,
    Server,
    ServerSettings,
    Spend,
    read_address,
)
from udr_training.feedback.packing import Likelihoods, Prompt, Tokens
from udr_training.feedback.remote import sanity_check
from udr_training.feedback.remote.echo import Echo, EchoError, read_echo

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class RemoteLM:
    """Scores options after prompts, one request per option; knows neither the model's weights nor its tokenizer.

    Its tokens are characters, as code points, and the server counts by its own tokens. A token that spans the end of
    the context and the beginning of an option belongs to the option.

    Args:
        url: the server's address, up to and including ``/v1``.
        model: the model's name on the server.
        key: the server's API key, if it needs one.
        policy: concurrency, timeouts and retries.
        characters: the longest text that the model takes; None for no limit: the server refuses longer texts.
        commit_prompts: prompts that are scored together, and stored in one commit.
        settings: the key, headers, body fields and parameters of requests; its rates are the policy's.
        meter: counts what requests cost, and holds them to a budget; None counts nothing.

    Attributes:
        name: the address and the model's name, as ``connect`` takes them.
        fingerprint: a hash of these and of the longest text; it does not notice changed weights.
        dtype: always ``remote``.
        context: the longest text, in characters.
    """

    dtype = "remote"

    def __init__(
        self,
        url: str,
        model: str,
        key: str | None = None,
        policy: RequestPolicy = RequestPolicy(),  # noqa: B008
        characters: int | None = None,
        commit_prompts: int = 64,
        settings: ServerSettings = ServerSettings(),  # noqa: B008
        meter: Meter | None = None,
    ) -> None:
        self.name = f"{url}?model={model}" + (f"&characters={characters}" if characters else "")
        # Without settings as in earlier versions, so that their scores stay valid.
        identity = [url, model, characters, *([settings.asked] if any(settings.asked.values()) else [])]
        self.fingerprint = f"remote-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]}"
        self.context = characters or 1 << 30
        self._model, self._commit_prompts = model, commit_prompts
        self._settings, self._meter = settings, meter or Meter()
        self._server = _server(url, key, policy, settings, self._meter)

    @property
    def spent(self) -> str:
        """What its scores have cost, in words."""
        return self._meter.spent

    @classmethod
    def connect(
        cls,
        name: str,
        policy: RequestPolicy | None = None,
        settings: ServerSettings = ServerSettings(),  # noqa: B008
        meter: Meter | None = None,
    ) -> "RemoteLM":
        """Return the language model of a server, after a check on known texts.

        The API key is read from the environment variable ``UDR_LM_KEY``, or from that of the settings.

        Args:
            name: such as ``http://127.0.0.1:8000/v1?model=NAME``; the model's name is optional if the server has only
                one; ``&characters=N`` cuts demonstrations, so that no prompt exceeds N characters.
            policy: concurrency, timeouts and retries; None takes them from the settings.
            settings: how requests are sent.
            meter: counts what requests cost, and holds them to a budget; None counts nothing.

        Raises:
            ConfigError: the address is invalid, of a chat server, or does not name one of several models.
            FeedbackError: the server cannot be reached, or returns no usable log-probabilities.
        """
        address = read_address(name)
        if address.api is Api.CHAT:
            raise ConfigError(
                f"a chat server does not echo prompts, found {name}; give --kind chat-logprobs, metric or rank, or the "
                "address of a completions server"
            )
        policy = policy or RequestPolicy(
            concurrency=settings.concurrency, attempts=settings.attempts, timeout_seconds=settings.timeout
        )
        model = address.model or _only_model(_server(address.url, None, policy, settings))
        lm = cls(address.url, model, None, policy, address.characters, settings=settings, meter=meter)
        lm.check()
        return lm

    def check(self) -> None:
        """Raise a FeedbackError unless the server's log-probabilities of known texts are a language model's."""
        try:
            problem = sanity_check.find_problem(*_send_all(self._server, self._echo, sanity_check.TEXTS, self._meter))
        except EchoError as error:
            problem = str(error)
        if problem is not None:
            raise FeedbackError(
                f"{self.name} returns no usable log-probabilities: {problem}; use a server whose /v1/completions "
                "returns those of an echoed prompt"
            )

    def tokens(self, text: str, *, start: bool = False) -> Tokens:
        """Return the code points of a text; the server adds a BOS if the model has one."""
        return tuple(map(ord, text))

    def plan(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Return which prompts to score together, as positions.

        Prompts with a common beginning (instruction, demonstration) follow one another, so that a server with a prefix
        cache reads it once; the longest come first, so that one that is too long fails at once.
        """
        longest: dict[tuple[Tokens, ...], int] = {}
        for prompt in prompts:
            for shared in _prefixes(prompt):
                longest[shared] = max(longest.get(shared, 0), prompt.length)

        def order_key(number: int) -> tuple[list[tuple[int, tuple[Tokens, ...]]], int, int]:
            groups = [(-longest[shared], shared) for shared in _prefixes(prompts[number])]
            return groups, -prompts[number].length, number

        order = sorted(range(len(prompts)), key=order_key)
        return [order[start : start + self._commit_prompts] for start in range(0, len(order), self._commit_prompts)]

    def score(self, prompts: Sequence[Prompt]) -> list[Likelihoods]:
        """Return the likelihoods of the prompts' options; the number of tokens is by the server's tokenizer.

        Raises:
            FeedbackError: a request fails or returns unusable numbers; open requests are cancelled.
        """
        pairs = [(prompt.context, option) for prompt in prompts for option in prompt.options]
        texts = [("".join(map(chr, context)), "".join(map(chr, option))) for context, option in pairs]
        values = iter(_send_all(self._server, self._option, texts, self._meter))
        by_prompt = [[next(values) for _ in prompt.options] for prompt in prompts]
        return [Likelihoods(np.array(list(map(sum, options))), tuple(map(len, options))) for options in by_prompt]

    async def _option(self, send: Send, texts: tuple[str, str]) -> list[float]:
        context, option = texts
        try:
            echo = await self._echo(send, context + option)
            first = echo.option_start(context)
            if first is None:
                first = echo.option_start_after(await self._echo(send, context))
            return echo.values(first)
        except EchoError as error:
            raise FeedbackError(f"{self.name}, likelihood of {option!r}: {error}") from error

    async def _echo(self, send: Send, text: str) -> Echo:
        body = {"model": self._model, "prompt": text, "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0}
        async with self._meter.reserved(len(text.encode()) + 1, 1):
            response = await send("/completions", body | dict(self._settings.body))
            echo = read_echo(text, response)
            self._meter.pay(Spend(0, len(echo.tokens), 1))
        return echo


def _send_all(
    server: Server,
    request: Callable[[Send, _Item], Coroutine[Any, Any, _Result]],
    items: Sequence[_Item],
    meter: Meter | None = None,
) -> list[_Result]:
    """Return the result of a request for each item; if one fails, the others are cancelled and its error is raised."""

    async def results() -> list[_Result]:
        if meter is not None:
            meter.start()
        try:
            async with server.open() as send, asyncio.TaskGroup() as group:
                tasks = [group.create_task(request(send, item)) for item in items]
        except ExceptionGroup as failed:
            first = failed.exceptions[0]
            raise first from first.__cause__
        return [task.result() for task in tasks]

    return asyncio.run(results())


def _server(
    url: str, key: str | None, policy: RequestPolicy, settings: ServerSettings, meter: Meter | None = None
) -> Server:
    too_long = "add &characters=N to the model's address to cut demonstrations so that no prompt exceeds N characters"
    headers = settings.secret_headers()
    counted = {} if meter is None else {"on_send": meter.on_send}
    return Server(
        url,
        key,
        policy,
        headers=headers,
        query=settings.query,
        too_long=too_long,
        key_name=settings.key,
        **counted,
    )


async def _read(send: Send, path: str) -> object:
    return await send(path, None)


def _only_model(server: Server) -> str:
    """Return the name of a server's only model."""
    body: Any
    (body,) = _send_all(server, _read, ["/models"])
    models = body.get("data") if isinstance(body, Mapping) else None
    models = models if isinstance(models, list) else []
    names = [str(model["id"]) for model in models if isinstance(model, Mapping) and "id" in model]
    if len(names) != 1:
        listed = ", ".join(names[:20]) or "none"
        raise ConfigError(f"{server.url} serves {len(names)} models; name one with ?model=NAME: {listed}")
    return names[0]


def _prefixes(prompt: Prompt) -> list[tuple[Tokens, ...]]:
    """Return the prefixes that prompts may share: instruction, instruction and demonstration, ..."""
    return [prompt.parts[:end] for end in range(1, len(prompt.parts))]
