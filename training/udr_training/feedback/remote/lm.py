"""A feedback language model behind an OpenAI-compatible ``/v1/completions``: vLLM, SGLang, llama-cpp-python, ...

Asked to echo a prompt, such a server returns the log-probability of each of its tokens. Many do so wrongly or not
at all and say nothing of it, so a server is asked about known texts first (``probe``), and refused by name.
"""

import asyncio
import hashlib
import json
import os
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from udr.errors import ConfigError, FeedbackError
from udr_training.feedback.packing import Likelihoods, Prompt, Tokens
from udr_training.feedback.remote import sanity_check
from udr_training.feedback.remote.echo import Echo, EchoError, read_echo
from udr_training.feedback.remote.http import KEY, PATIENCE, Ask, Patience, Server, read_address

PROMPTS = 64
"""Prompts that are scored together, and stored in one commit."""

# Names of models that are shown.
_LISTED = 20

_Result = TypeVar("_Result")


class RemoteLM:
    """Scores options after prompts, one request an option; knows neither the model's weights nor its tokenizer.

    Its tokens are characters, as code points: texts are not cut before they are sent, and the server counts by its
    own tokens. A token that holds the end of the context and the beginning of an option is counted as the option's.

    Args:
        url: where the server is, up to and including ``/v1``.
        model: the name it serves the model under.
        key: its API key, if it wants one.
        patience: how it is asked.
        characters: the longest text it takes; None for no limit: the server knows its own, and refuses what is longer.

    Attributes:
        name: the address and the model's name, as ``connect`` takes them.
        fingerprint: of these, and of the longest text; weights that change behind them are not noticed.
        dtype: always ``remote``.
        context: the longest text, in characters.
    """

    dtype = "remote"

    def __init__(
        self,
        url: str,
        model: str,
        key: str | None = None,
        patience: Patience = PATIENCE,
        characters: int | None = None,
    ) -> None:
        self.name = f"{url}?model={model}" + (f"&characters={characters}" if characters else "")
        self.fingerprint = f"remote-{hashlib.sha256(json.dumps([url, model, characters]).encode()).hexdigest()[:16]}"
        self.context = characters or 1 << 30
        self._model = model
        self._server = Server(url, key, patience)

    @classmethod
    def connect(cls, name: str, patience: Patience = PATIENCE) -> "RemoteLM":
        """Return the language model of a server that was asked about known texts and passed; see ``probe``.

        The API key is read from the environment, ``UDR_LM_KEY``.

        Args:
            name: such as ``http://127.0.0.1:8000/v1?model=NAME``; without the model's name where it serves one; with
                ``&characters=N`` where demonstrations are to lose what a prompt has beyond them.
            patience: how it is asked.

        Raises:
            ConfigError: the name is no such address, or names no model where the server has not exactly one.
            FeedbackError: the server cannot be reached, or gives no log-probabilities that mean anything.
        """
        address = read_address(name)
        key = os.environ.get(KEY, "").strip() or None
        if key is not None and not (key.isascii() and key.isprintable()):
            raise ConfigError(f"{KEY} holds characters that no API key has; set it to the key alone")
        model = address.model or _only_model(Server(address.url, key, patience))
        lm = cls(address.url, model, key, patience, address.characters)
        lm.check()
        return lm

    def check(self) -> None:
        """Ask about known texts.

        Raises:
            FeedbackError: the answers are not a language model's; says what is wrong with them.
        """
        try:
            found = sanity_check.fault(*asyncio.run(self._echoes(sanity_check.TEXTS)))
        except EchoError as error:
            found = str(error)
        if found is not None:
            raise FeedbackError(
                f"{self.name} gives no usable log-probabilities: {found}; take a server whose /v1/completions returns "
                "those of an echoed prompt"
            )

    def tokens(self, text: str, *, start: bool = False) -> Tokens:
        """Return the code points of a text; the server puts a BOS before the whole where the model has one."""
        return tuple(map(ord, text))

    def plan(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Say which prompts to score together: positions in ``prompts``, ``PROMPTS`` at a time.

        Prompts that begin alike (instruction, demonstration) follow one another, so that a server that keeps what
        it has read reads it once; the longest come first, so that one that is too long is known at once.
        """
        longest: dict[tuple[Tokens, ...], int] = {}
        for prompt in prompts:
            for shared in _beginnings(prompt):
                longest[shared] = max(longest.get(shared, 0), prompt.length)

        def place(number: int) -> tuple[list[tuple[int, tuple[Tokens, ...]]], int, int]:
            groups = [(-longest[shared], shared) for shared in _beginnings(prompts[number])]
            return groups, -prompts[number].length, number

        order = sorted(range(len(prompts)), key=place)
        return [order[start : start + PROMPTS] for start in range(0, len(order), PROMPTS)]

    def score(self, prompts: Sequence[Prompt]) -> list[Likelihoods]:
        """Return what the model says of the prompts' options; the number of tokens is by the server's tokenizer.

        Raises:
            FeedbackError: the server cannot be reached, refuses a prompt or gives no usable numbers. Requests that
                are under way then are given up.
        """
        asked = [_texts(prompt) for prompt in prompts]
        values = iter(
            asyncio.run(self._options([(context, option) for context, options in asked for option in options]))
        )
        results = []
        for _, options in asked:
            own = [next(values) for _ in options]
            results.append(Likelihoods(np.array([sum(option) for option in own]), tuple(map(len, own))))
        return results

    async def _echoes(self, texts: Sequence[str]) -> list[Echo]:
        async with self._server.open() as ask:
            return await _together([self._echo(ask, text) for text in texts])

    async def _options(self, asked: Sequence[tuple[str, str]]) -> list[list[float]]:
        """Return the log-probabilities of each option's tokens."""
        async with self._server.open() as ask:
            return await _together([self._option(ask, context, option) for context, option in asked])

    async def _option(self, ask: Ask, context: str, option: str) -> list[float]:
        try:
            echo = await self._echo(ask, context + option)
            first = echo.option_start(context)
            if first is None:
                first = echo.option_start_after(await self._echo(ask, context))
            return echo.values(first)
        except EchoError as error:
            raise FeedbackError(f"{self.name}, asked for the likelihood of {option!r}: {error}") from error

    async def _echo(self, ask: Ask, text: str) -> Echo:
        body = {"model": self._model, "prompt": text, "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0}
        return read_echo(text, await ask("/completions", body))


async def _together(coroutines: Sequence[Coroutine[Any, Any, _Result]]) -> list[_Result]:
    """Return what they return, in their order; where one fails, the others are cancelled and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except ExceptionGroup as failed:
        first = failed.exceptions[0]
        raise first from first.__cause__
    return [task.result() for task in tasks]


def _only_model(server: Server) -> str:
    """Return the name of the one model that a server has."""

    async def listed() -> object:
        async with server.open() as ask:
            return await ask("/models", None)

    body: Any = asyncio.run(listed())
    models = body.get("data") if isinstance(body, Mapping) else None
    models = models if isinstance(models, list) else []
    names = [str(model["id"]) for model in models if isinstance(model, Mapping) and "id" in model]
    if len(names) != 1:
        found = ", ".join(names[:_LISTED]) or "none"
        raise ConfigError(f"{server.url} serves {len(names)} models; name one with ?model=NAME: {found}")
    return names[0]


def _texts(prompt: Prompt) -> tuple[str, tuple[str, ...]]:
    """Return what a prompt's code points spell: what stands before the options, and the options."""
    return "".join(map(chr, prompt.context)), tuple("".join(map(chr, option)) for option in prompt.options)


def _beginnings(prompt: Prompt) -> list[tuple[Tokens, ...]]:
    """Return the parts that others may share, from the first on: instruction, instruction and demonstration, ..."""
    return [prompt.parts[:end] for end in range(1, len(prompt.parts))]
