"""A text as a completions server echoes it: the server's tokens, their log-probabilities, which are an option's.

Servers place tokens in the text each in its own way: vLLM's ``text_offset`` counts the BOS, which is no part of
the text, SGLang's is -1 throughout, others leave it out. So it is not read: the tokens themselves, put together,
say where each begins. Some do not spell the text (half of a character, a word without its space); then the tokens
of the context alone say where the option begins. This module is pure: answers in, numbers out.
"""

import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Any

# vLLM writes this for minus infinity, which JSON does not have.
_NOTHING = -9999.0
# A logarithm of a probability of one, as 16-bit floats round it.
_ROUNDING = 1e-3
# So many of a context's last tokens may be cut otherwise where an option follows.
_MERGED = 3


class EchoError(ValueError):
    """An answer holds no log-probabilities that can be used; says why."""


@dataclass(frozen=True, slots=True)
class Echo:
    """A text as a server cut and valued it, without what it generated after it.

    Attributes:
        text: what was asked.
        tokens: the server's tokens, those included that it puts before the text, such as BOS.
        log_probabilities: [num_tokens], each token's after those before it, as found; the first's means nothing.
        starts: [num_tokens + 1], where in the text each token begins, then where the last ends; None where the
            tokens do not spell the text.
    """

    text: str
    tokens: tuple[str, ...]
    log_probabilities: tuple[object, ...]
    starts: tuple[int, ...] | None

    def option_start(self, context: str) -> int | None:
        """Return the position of the first token of what follows ``context``; None where tokens do not spell it.

        A token that holds the end of the context and the beginning of the option is the option's.
        """
        if self.starts is None:
            return None
        first = bisect_left(self.starts, len(context))
        return first - (self.starts[first] > len(context))

    def option_start_after(self, context: "Echo") -> int:
        """Return the same from the context's own tokens: an option begins where the tokens part.

        Raises:
            EchoError: they part long before the end of the context: it was cut short, or cut anew.
        """
        first = num_shared(context, self)
        if first + _MERGED < len(context.tokens):
            raise EchoError(
                f"a context has other tokens alone than before an option, from {context.tokens[first]!r} on: "
                "the server shortens prompts or changes them"
            )
        return first

    def values(self, first: int) -> list[float]:
        """Return the log-probabilities of the tokens from ``first`` on.

        Raises:
            EchoError: there are none, or one is no logarithm of a probability.
        """
        found = []
        for token, said in zip(self.tokens[first:], self.log_probabilities[first:], strict=True):
            value = _log_probability(said)
            if value is None:
                raise EchoError(f"token {token!r} has the log-probability {said}")
            found.append(value)
        if not found:
            raise EchoError(f"the tokens do not reach the end of the prompt, {self.text[-40:]!r}")
        return found


def read_echo(text: str, answer: object) -> Echo:
    """Return what a server said of a text that it was asked to echo and to continue by one token.

    Args:
        text: the text.
        answer: the body of the response, parsed.

    Raises:
        EchoError: it holds no log-probabilities of tokens, or more than one token after the text.
    """
    tokens, values, num_generated = _parts(answer)
    spelled = "".join(tokens)
    before = spelled.find(text)
    if before < 0:
        end = len(tokens) - num_generated
        return Echo(text, tokens[:end], values[:end], None)
    starts = tuple(accumulate(map(len, tokens), initial=-before))
    # An end-of-text token may be listed or not, and may be empty: what was generated is told by where it stands.
    end = sum(start < len(text) for start in starts[:-1])
    if len(tokens) - end > 1:
        raise EchoError(
            f"{len(tokens) - end} tokens follow the prompt, {spelled[before + len(text) :][:40]!r}, where one was "
            "asked for: the server adds to the prompt"
        )
    return Echo(text, tokens[:end], values[:end], starts[: end + 1])


def _parts(answer: object) -> tuple[tuple[str, ...], tuple[object, ...], int]:
    """Return tokens, log-probabilities, and how many of them were generated if the server does not lie."""
    body: Any = answer if isinstance(answer, Mapping) else {}
    choices = body.get("choices")
    choice: Any = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) else None
    if choice is None:
        raise EchoError("the answer is no completion; the address must be of an OpenAI-compatible server")
    said = choice.get("logprobs")
    tokens, values = (said.get("tokens"), said.get("token_logprobs")) if isinstance(said, Mapping) else (None, None)
    if not isinstance(tokens, list) or not isinstance(values, list) or not tokens:
        raise EchoError("it returns no log-probabilities of tokens (logprobs.token_logprobs)")
    if len(tokens) != len(values):
        raise EchoError(f"it returns {len(values)} log-probabilities for {len(tokens)} tokens")
    usage = body.get("usage")
    counted = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
    return tuple(map(str, tokens)), tuple(values), counted if counted in (0, 1) else 1


def num_shared(one: Echo, other: Echo) -> int:
    """Return how many tokens two echoes begin with alike."""
    pairs = zip(one.tokens, other.tokens, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def is_echo(echo: Echo) -> bool:
    """Say whether the tokens end with a text's ASCII letters and digits, which no tokenizer changes."""
    return _letters("".join(echo.tokens)).endswith(_letters(echo.text))


def _letters(text: str) -> str:
    return re.sub("[^0-9A-Za-z]", "", text)


def _log_probability(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    # Not a number compares as false, too.
    return float(value) if _NOTHING < value <= _ROUNDING else None
