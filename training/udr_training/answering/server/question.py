"""A question to a server: what it may cost, and what is kept of its answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from udr.models import Message
from udr.types import Json
from udr_training.answering.prompts import estimated_tokens
from udr_training.answering.server.budget import Spend
from udr_training.answering.server.replies import Reply, read_reply

# What a chat template may add to a message, in tokens.
_TEMPLATE_TOKENS = 16
# Characters of a prompt in an error.
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Question:
    """What a server is asked once.

    Attributes:
        prompt: a text, or chat messages.
        max_tokens: the longest answer.
        fields: further fields of the request's body.
        sample: its number, if the same is asked several times.
        read: returns what is kept of the parsed response; raises ``ReplyError`` if it is unusable.
        about: the row that errors name; empty shows the end of the prompt.
    """

    prompt: str | tuple[Message, ...]
    max_tokens: int
    fields: Mapping[str, Json] = field(default_factory=dict)
    sample: int = 0
    read: Callable[[object], Reply] = read_reply
    about: str = ""

    @property
    def texts(self) -> list[str]:
        """The texts of the prompt."""
        return [self.prompt] if isinstance(self.prompt, str) else [message["content"] for message in self.prompt]

    @property
    def shown(self) -> str:
        """What errors call it."""
        return self.about or f"the prompt that ends with {self.texts[-1][-_SHOWN:]!r}"

    @property
    def most_tokens(self) -> int:
        """The most tokens that its prompt may have: one for each byte, and a chat template's."""
        return sum(len(text.encode()) + _TEMPLATE_TOKENS for text in self.texts)

    def spend(self, reply: Reply, num_answers: int) -> Spend:
        """Return the tokens of a reply with so many answers, estimated if the server does not count them.

        The request itself is counted when it is sent.
        """
        prompt, completion = reply.prompt_tokens, reply.completion_tokens
        known = prompt is not None and completion is not None
        if prompt is None:
            prompt = sum(map(estimated_tokens, self.texts))
        if completion is None:
            completion = num_answers * estimated_tokens(reply.text)
        spend = Spend(0, prompt, completion)
        return spend if known else replace(spend, estimated=1)
