"""Counting tokens with any library: protocols, and what the package's own counters share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol, TypedDict, runtime_checkable

from udr.errors import InvalidInputError, ModelError, brief


class Message(TypedDict):
    """A chat message in OpenAI's format."""

    role: str
    content: str


Render = Callable[[Sequence[Message]], str]
"""Returns the text that a language model reads for chat messages, up to the start of its answer."""


class TokenCounter(Protocol):
    """Anything that counts the tokens of a text.

    Three optional attributes: if there is a ``fingerprint``, demonstrations that an index has counted with the same
    tokenizer are not counted again; a prompt reports ``special_tokens`` in its data; each message of a chat takes
    ``message_tokens`` beside its content.
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


class LoadedTokenizer(ABC):
    """A tokenizer that ``load_tokenizer`` returns.

    Attributes:
        name: its name, as requested.
    """

    name: str

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of the tokenizer: 16 hex digits."""

    @property
    @abstractmethod
    def special_tokens(self) -> tuple[str, ...]:
        """The texts of its special tokens."""

    @property
    def has_chat_template(self) -> bool:
        """Whether it has a chat template."""
        return False

    def count(self, text: str) -> int:
        """Return the number of tokens of a text, including added special tokens ([CLS], BOS).

        Raises:
            InvalidInputError: it is no text, or contains a lone surrogate, which UTF-8 cannot encode.
        """
        return self._count(_text(text), special=True)

    def counts_inside(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, without added special tokens; errors as ``count``."""
        return [self._count(_text(text), special=False) for text in texts]

    def count_messages(self, messages: Sequence[Message]) -> int:
        """Return the number of tokens of a chat, formatted by the template up to the start of the answer.

        Raises:
            ModelError: there is no chat template.
            InvalidInputError: the template rejects these messages, or a text is not valid Unicode.
        """
        return self._count(self.render(messages), special=False)

    def render(self, messages: Sequence[Message]) -> str:
        """Return messages formatted by the chat template; errors as ``count_messages``."""
        raise ModelError(f"tokenizer {self.name!r} has no chat template")

    @abstractmethod
    def _count(self, text: str, *, special: bool) -> int: ...


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise not_text([value])
    return value


def not_text(values: Sequence[object]) -> InvalidInputError:
    """Return the error for values of which one cannot be counted."""
    for value in values:
        if not isinstance(value, str):
            return InvalidInputError(f"only text has tokens to count, found {brief(value)}")
    return InvalidInputError("a text is not valid Unicode: it contains a lone surrogate")
