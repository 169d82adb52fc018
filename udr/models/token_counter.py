"""Protocols for counting tokens with any library."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypedDict, runtime_checkable


class Message(TypedDict):
    """A chat message in OpenAI's format."""

    role: str
    content: str


Render = Callable[[Sequence[Message]], str]
"""Returns the text that a language model reads for chat messages, up to the start of its answer."""


class TokenCounter(Protocol):
    """Anything that counts the tokens of a text.

    Two optional attributes: with ``fingerprint``, demonstrations that an index has counted with the same tokenizer are
    not counted again; with ``special_tokens``, a prompt reports special tokens in its data.
    """

    def count(self, text: str) -> int:
        """Return the number of tokens of a text, including added special tokens ([CLS], BOS)."""


@runtime_checkable
class ChatCounter(TokenCounter, Protocol):
    """A token counter that may have a chat template."""

    @property
    def has_chat_template(self) -> bool:
        """Whether it has a chat template."""

    def count_messages(self, messages: Sequence[Message]) -> int:
        """Return the number of tokens of a chat, formatted by the template up to the start of the answer."""


class LoadedTokenizer(ChatCounter, Protocol):
    """The type that ``load_tokenizer`` returns."""

    name: str

    @property
    def fingerprint(self) -> str:
        """A hash of the tokenizer: 16 hex digits."""

    @property
    def special_tokens(self) -> Sequence[str]:
        """The texts of its special tokens."""

    def counts_inside(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, without added special tokens."""
