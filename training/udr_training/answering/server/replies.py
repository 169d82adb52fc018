"""Replies of chat and completions servers: responses in, values out. This module is pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from udr.types import Json

# Positions of an answer whose alternatives are kept.
_POSITIONS = 8
# In place of minus infinity, which JSON cannot express; as vLLM does.
_LEAST = -9999.0


class ReplyError(ValueError):
    """A response that is not an answer; the message says why."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Attributes:
        text: the answer; empty if the model gave none.
        finish: why it ended, as the server says; ``length`` if it was cut.
        prompt_tokens: the tokens of the prompt, if the server counts them.
        completion_tokens: the tokens of the answer, those of its reasoning included.
        tokens: the first tokens of the answer, if requested.
        top: for each of them the likeliest tokens with their log-probabilities, the likeliest first.
    """

    text: str
    finish: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    tokens: tuple[str, ...] = ()
    top: tuple[tuple[tuple[str, float], ...], ...] = ()

    def to_json(self) -> dict[str, Json]:
        """Return its JSON."""
        return {
            "text": self.text,
            "finish": self.finish,
            "usage": [self.prompt_tokens, self.completion_tokens],
            **(
                {"tokens": list(self.tokens), "top": [[list(pair) for pair in at] for at in self.top]}
                if self.top
                else {}
            ),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Reply":
        """Return what ``to_json`` described."""
        top = tuple(tuple((str(token), float(number)) for token, number in at) for at in value.get("top", ()))
        prompt_tokens, completion_tokens = value["usage"]
        tokens = tuple(value.get("tokens", ()))
        return Reply(value["text"], value["finish"], prompt_tokens, completion_tokens, tokens, top)


def read_reply(response: object) -> Reply:
    """Return the answer in a parsed response of ``/chat/completions`` or ``/completions``.

    Raises:
        ReplyError: there is none.
    """
    body: Any = response if isinstance(response, Mapping) else {}
    choices = body.get("choices")
    choice: Any = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, Mapping):
        raise ReplyError("the response is not an answer; the address must be of an OpenAI-compatible server")
    message = choice.get("message")
    content = message.get("content") if isinstance(message, Mapping) else choice.get("text")
    if isinstance(message, Mapping) and isinstance(content, list):
        # Some servers give the parts of a message.
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    if content is not None and not isinstance(content, str):
        raise ReplyError(f"the answer must be a text, found {type(content).__name__}")
    if content is None and not isinstance(message, Mapping):
        raise ReplyError("the response has no answer: neither choices[0].message nor choices[0].text")
    usage = body.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    finish = choice.get("finish_reason")
    tokens, top = _alternatives(choice.get("logprobs"))
    return Reply(
        content or "",
        finish if isinstance(finish, str) else None,
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
        tokens,
        top,
    )


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _alternatives(logprobs: object) -> tuple[tuple[str, ...], tuple[tuple[tuple[str, float], ...], ...]]:
    """Return the answer's first tokens, and for each the likeliest ones; empty if there are none."""
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    tokens, top = list[str](), list[tuple[tuple[str, float], ...]]()
    for position in content[:_POSITIONS] if isinstance(content, list) else ():
        listed = position.get("top_logprobs") if isinstance(position, Mapping) else None
        # An empty list tells as little as none.
        if not isinstance(listed, list) or not listed:
            break
        tokens.append(str(position.get("token")))
        top.append(tuple(sorted(map(_pair, listed), key=lambda pair: -pair[1])))
    return tuple(tokens), tuple(top)


def _pair(item: object) -> tuple[str, float]:
    value = item.get("logprob") if isinstance(item, Mapping) else None
    # NaN compares as false, too.
    if not isinstance(item, Mapping) or not isinstance(value, int | float) or not value <= 1e-3:
        raise ReplyError(f"top_logprobs must have tokens with log-probabilities of at most 0, found {str(item)[:80]}")
    return str(item.get("token")), max(_LEAST, min(0.0, float(value)))
