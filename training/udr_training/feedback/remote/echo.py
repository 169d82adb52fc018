"""A text as a completions server echoes it: the server's tokens, their log-probabilities, and which are an option's.

Servers report the tokens' offsets differently: vLLM's ``text_offset`` counts the BOS, which is not part of the text,
SGLang's is -1 throughout, others omit it. So offsets are ignored: the joined tokens show where each begins. If they do
not spell the text (half of a character, a word without its space), the tokens of the context alone show where the
option begins. This module is pure: responses in, numbers out.
"""

import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Any

from udr_training.answering import Reply, ReplyError

# vLLM's substitute for minus infinity, which JSON cannot express.
_MINUS_INFINITY = -9999.0
# A log-probability of 0 may be rounded up to this in 16 bits.
_ROUNDING = 1e-3
# Tokens at the end of a context that may be different before an option.
_MERGED = 3


class EchoError(ReplyError):
    """A response without usable log-probabilities; the message says why."""


@dataclass(frozen=True, slots=True)
class Echo:
    """An echoed text, without the text generated after it.

    Attributes:
        text: the text.
        tokens: the server's tokens, including those before the text, such as BOS.
        log_probabilities: [num_tokens], each token's given those before it, unchecked; the first is meaningless.
        starts: [num_tokens + 1], each token's start in the text, then the last token's end; None if the tokens do not
            spell the text.
    """

    text: str
    tokens: tuple[str, ...]
    log_probabilities: tuple[Any, ...]
    starts: tuple[int, ...] | None

    def option_start(self, context: str) -> int | None:
        """Return the position of the first token after ``context``; None if the tokens do not spell the text.

        A token that spans the end of the context and the beginning of the option belongs to the option.
        """
        if self.starts is None:
            return None
        first = bisect_left(self.starts, len(context))
        return first - (self.starts[first] > len(context))

    def option_start_after(self, context: "Echo") -> int:
        """Return the same, where the tokens diverge from those of the context alone.

        Raises:
            EchoError: they diverge long before the end of the context, so it was truncated or tokenised differently.
        """
        first = num_shared(context, self)
        if first + _MERGED < len(context.tokens):
            raise EchoError(
                f"a context has different tokens alone and before an option, from {context.tokens[first]!r} on: "
                "the server truncates prompts or changes them"
            )
        return first

    def values(self, first: int) -> list[float]:
        """Return the log-probabilities from position ``first`` on, of which there must be one."""
        values = []
        for token, value in zip(self.tokens[first:], self.log_probabilities[first:], strict=True):
            if not _is_usable(value):
                raise EchoError(f"token {token!r} has the log-probability {value}")
            values.append(float(value))
        if not values:
            raise EchoError(f"the tokens do not reach the end of the prompt, {self.text[-40:]!r}")
        return values

    def reply(self, option: str = "", first: int = 0) -> Reply:
        """Return what is kept of it, by default everything: ``option`` if its tokens begin at ``first``."""
        pairs = zip(self.tokens[first:], self.log_probabilities[first:], strict=True)
        top = tuple(((token, float(value)),) if _is_usable(value) else () for token, value in pairs)
        return Reply(option, None, len(self.tokens), 1, self.tokens[first:], top)


def _is_usable(value: object) -> bool:
    """Return whether a value can be a log-probability."""
    # NaN compares as false, too.
    return isinstance(value, int | float) and not isinstance(value, bool) and _MINUS_INFINITY < value <= _ROUNDING


def kept_echo(text: str, reply: Reply) -> Echo:
    """Return the echo of a text of which everything is kept."""
    values = tuple(pairs[0][1] if pairs else None for pairs in reply.top)
    return Echo(text, reply.tokens, values, None)


def read_echo(text: str, response: object) -> Echo:
    """Return the echo of a text in a response, parsed, that continues it by at most one token.

    Raises:
        EchoError: it has no log-probabilities of tokens, or more than one token after the text.
    """
    tokens, values, num_generated = _parts(response)
    joined = "".join(tokens)
    before = joined.find(text)
    if before < 0:
        end = len(tokens) - num_generated
        return Echo(text, tokens[:end], values[:end], None)
    starts = tuple(accumulate(map(len, tokens), initial=-before))
    # By position: a generated end-of-text token may be listed or not, and may be empty.
    end = sum(start < len(text) for start in starts[:-1])
    if len(tokens) - end > 1:
        raise EchoError(
            f"{len(tokens) - end} tokens follow the prompt, {joined[before + len(text) :][:40]!r}, instead of one: "
            "the server adds to the prompt"
        )
    return Echo(text, tokens[:end], values[:end], starts[: end + 1])


def _parts(response: object) -> tuple[tuple[str, ...], tuple[Any, ...], int]:
    # The tokens, their log-probabilities, and the reported number of generated tokens.
    body: Any = response if isinstance(response, Mapping) else {}
    choices = body.get("choices")
    choice: Any = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, Mapping):
        raise EchoError("the response is not a completion; the address must be of an OpenAI-compatible server")
    logprobs = choice.get("logprobs")
    logprobs = logprobs if isinstance(logprobs, Mapping) else {}
    tokens, values = logprobs.get("tokens"), logprobs.get("token_logprobs")
    if not isinstance(tokens, list) or not isinstance(values, list) or not tokens:
        raise EchoError("it returns no log-probabilities of tokens (logprobs.token_logprobs)")
    if len(tokens) != len(values):
        raise EchoError(f"it returns {len(values)} log-probabilities for {len(tokens)} tokens")
    usage = body.get("usage")
    num_generated = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
    return tuple(map(str, tokens)), tuple(values), num_generated if num_generated in (0, 1) else 1


def num_shared(one: Echo, other: Echo) -> int:
    """Return the length of the longest common prefix of two echoes, in tokens."""
    pairs = zip(one.tokens, other.tokens, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def is_echo(echo: Echo) -> bool:
    """Return whether the tokens end with the text's ASCII letters and digits, which no tokenizer changes."""
    tokens, text = (re.sub("[^0-9A-Za-z]", "", part) for part in ("".join(echo.tokens), echo.text))
    return tokens.endswith(text)
