"""What counts tokens, whichever library it is from."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypedDict, runtime_checkable


class Message(TypedDict):
    """One chat message, as OpenAI's interface has it."""

    role: str
    content: str


Render = Callable[[Sequence[Message]], str]
"""From chat messages to the text that a language model reads, up to where its answer begins."""


class TokenCounter(Protocol):
    """Anything that can tell how many tokens a text is.

    Two attributes are used where it has them. ``fingerprint``, a text: demonstrations that an index has counted by the
    tokenizer of this fingerprint are not counted again. ``special_tokens``, a sequence of texts: what it reads as
    special tokens, which a prompt reports where data holds it.
    """

    def count(self, text: str) -> int:
        """Return the number of tokens of the whole text, with those that are added around it ([CLS], BOS)."""


@runtime_checkable
class ChatCounter(TokenCounter, Protocol):
    """A counter that may know how its language model is shown chat messages."""

    @property
    def has_chat_template(self) -> bool:
        """Whether it does."""

    def count_messages(self, messages: Sequence[Message]) -> int:
        """Return the number of tokens of a chat, with all that the template adds, up to where the answer begins."""


class LoadedTokenizer(ChatCounter, Protocol):
    """What ``load_tokenizer`` returns, whichever library counts."""

    name: str

    @property
    def fingerprint(self) -> str:
        """16 hex digits that stand for the tokenizer."""

    @property
    def special_tokens(self) -> Sequence[str]:
        """The texts that it reads as special tokens."""

    def counts_inside(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, without those that are added around it."""
