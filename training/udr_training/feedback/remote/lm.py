"""A feedback language model behind an OpenAI-compatible ``/v1/completions``: vLLM, SGLang, llama-cpp-python, ...

Such a server echoes a prompt with the log-probability of each of its tokens. Many return wrong numbers or none without
an error, so a server must first pass a check on known texts (``sanity_check``).
"""

import hashlib
import json
from collections.abc import Sequence
from functools import partial

import numpy as np

from udr.errors import ConfigError, FeedbackError
from udr.types import Json
from udr_training.answering import (
    Api,
    Budget,
    PaidAnswers,
    Question,
    Reply,
    RequestPolicy,
    ServerLM,
    ServerSettings,
    read_address,
)
from udr_training.feedback.packing import Likelihoods, Prompt, Tokens
from udr_training.feedback.remote import sanity_check
from udr_training.feedback.remote.echo import EchoError, kept_echo, read_echo

_FIELDS: dict[str, Json] = {"echo": True, "logprobs": 1}
_TOO_LONG = "add &characters=N to the model's address to cut demonstrations so that no prompt exceeds N characters"


class RemoteLM:
    """Scores options after prompts, one request per option; knows neither the model's weights nor its tokenizer.

    Its tokens are characters, as code points, and the server counts by its own tokens. A token that spans the end of
    the context and the beginning of an option belongs to the option.

    Args:
        lm: the server's model, which is asked for its name if the address has none; it keeps what was echoed.
        characters: the longest text that the model takes; None for no limit: the server refuses longer texts.
        commit_prompts: prompts that are scored together, and stored in one commit.

    Attributes:
        name: the address and the model's name, as ``connect`` takes them.
        fingerprint: a hash of these and of the longest text; it does not notice changed weights.
        dtype: always ``remote``.
        context: the longest text, in characters.
    """

    dtype = "remote"

    def __init__(self, lm: ServerLM, characters: int | None = None, commit_prompts: int = 64) -> None:
        url, model, asked = lm.address.url, lm.model(), lm.settings.asked
        self.name = f"{url}?model={model}" + (f"&characters={characters}" if characters else "")
        # Without settings as in earlier versions, so that their scores stay valid.
        identity = [url, model, characters, *([asked] if any(asked.values()) else [])]
        self.fingerprint = f"remote-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]}"
        self.context = characters or 1 << 30
        self._lm, self._commit_prompts = lm, commit_prompts

    @property
    def spent(self) -> str:
        """What its scores have cost, in words."""
        return self._lm.spent

    @classmethod
    def connect(
        cls,
        name: str,
        settings: ServerSettings = ServerSettings(),  # noqa: B008
        budget: Budget = Budget(),  # noqa: B008
        paid: PaidAnswers | None = None,
        policy: RequestPolicy | None = None,
    ) -> "RemoteLM":
        """Return the language model of a server, unchecked. The arguments are those of ``ServerLM``.

        Args:
            name: such as ``http://127.0.0.1:8000/v1?model=NAME``; the model's name is optional if the server has only
                one; ``&characters=N`` cuts demonstrations, so that no prompt exceeds N characters.
            settings: how requests are sent.
            budget: the most that all answers may cost.
            paid: the answers so far.
            policy: concurrency, timeouts and retries; None takes them from the settings.

        Raises:
            ConfigError: the address is invalid, of a chat server, or does not name one of several models.
            FeedbackError: the server is asked for its model, and cannot be reached.
        """
        address = read_address(name)
        if address.api is Api.CHAT:
            raise ConfigError(
                f"a chat server does not echo prompts, found {name}; give --kind chat-logprobs, metric or rank, or the "
                "address of a completions server"
            )
        # Its text leaves out the longest text, which a server that answers does not take.
        return cls(ServerLM(str(address), settings, budget, paid, policy, _TOO_LONG), address.characters)

    def check(self) -> None:
        """Raise a FeedbackError unless the server's log-probabilities of known texts are a language model's."""
        questions = [self._whole(text) for text in sanity_check.TEXTS]
        # Asked each time, since a server that was started again may have other options.
        self._lm.forget(questions)
        try:
            echoes = map(kept_echo, sanity_check.TEXTS, self._lm.ask(questions))
            problem = sanity_check.find_problem(*echoes)
        except EchoError as error:
            problem = str(error)
        except FeedbackError as error:
            if not isinstance(error.__cause__, EchoError):
                raise
            problem = str(error.__cause__)
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

        What was echoed is kept, also if another request fails.

        Raises:
            FeedbackError: a request fails or returns unusable numbers; errors as ``ServerLM.ask``.
        """
        pairs = [(prompt.context, option) for prompt in prompts for option in prompt.options]
        texts = [("".join(map(chr, context)), "".join(map(chr, option))) for context, option in pairs]
        values = iter(self._values(texts))
        by_prompt = [[next(values) for _ in prompt.options] for prompt in prompts]
        return [Likelihoods(np.array(list(map(sum, options))), tuple(map(len, options))) for options in by_prompt]

    def _values(self, texts: Sequence[tuple[str, str]]) -> list[list[float]]:
        """Return the log-probabilities of the tokens of each option after its context."""
        replies = self._lm.ask([self._option(*pair) for pair in texts])
        # The tokens of the others do not show where the option begins; those of the context alone do.
        unclear = [context for (context, option), reply in zip(texts, replies, strict=True) if reply.text != option]
        alone = dict(zip(unclear, self._lm.ask([self._whole(context) for context in unclear]), strict=True))
        values = []
        for (context, option), reply in zip(texts, replies, strict=True):
            echo, first = kept_echo(context + option, reply), 0
            try:
                if reply.text != option:
                    first = echo.option_start_after(kept_echo(context, alone[context]))
                values.append(echo.values(first))
            except EchoError as error:
                # A server that is mended is asked again.
                self._lm.forget([self._option(context, option), self._whole(context)])
                raise FeedbackError(f"{self.name}: {_of(option, error)}") from error
        return values

    def _option(self, context: str, option: str) -> Question:
        """Return the question that echoes an option; texts that are cut elsewhere are other samples."""
        text, place = context + option, len(context)
        return Question(text, 1, _FIELDS, place, partial(_read_option, context, option))

    def _whole(self, text: str) -> Question:
        """Return the question that echoes a text."""
        return Question(text, 1, _FIELDS, read=lambda response: read_echo(text, response).reply())


def _read_option(context: str, option: str, response: object) -> Reply:
    """Return the tokens of an option, or all tokens if they do not show where it begins."""
    try:
        echo = read_echo(context + option, response)
        first = echo.option_start(context)
        if first is None:
            return echo.reply()
        # Unusable ones are not kept.
        echo.values(first)
    except EchoError as error:
        raise _of(option, error) from error
    return echo.reply(option, first)


def _of(option: str, error: EchoError) -> EchoError:
    """Return an error that names the option."""
    return EchoError(f"likelihood of {option!r}: {error}")


def _prefixes(prompt: Prompt) -> list[tuple[Tokens, ...]]:
    """Return the prefixes that prompts may share: instruction, instruction and demonstration, ..."""
    return [prompt.parts[:end] for end in range(1, len(prompt.parts))]
