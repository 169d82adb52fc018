"""What a prompt is made of and tells of itself; ``udr.prompt`` builds it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypedDict

from udr.models import Message
from udr.prompts.ordering import Order
from udr.retrieval import Decision, SelectionOptions
from udr.types import Json, Value


class Format(StrEnum):
    """What a prompt is for."""

    TEXT = "text"
    """One text, that a language model continues with the target."""

    MESSAGES = "messages"
    """Chat messages: the instruction as system, the query as the last user's turn; see ``Layout``."""

    RECORDS = "records"
    """The demonstrations as records, for those who build their own; counted as the text would be."""


class Layout(StrEnum):
    """Where chat messages show the demonstrations."""

    TURNS = "turns"
    """Each as a turn of the user and one of the assistant."""

    SYSTEM = "system"
    """All of them in the system message, after the instruction."""


class BuildingOptions(TypedDict, total=False):
    """How a prompt may be built, beside its budget; ``udr.prompt.PromptBuilder`` says what each means."""

    order: Order
    seed: int
    layout: Layout
    message_tokens: int
    list_options: bool
    truncate: str | None


class PromptOptions(SelectionOptions, BuildingOptions, total=False):
    """What a call may say of a prompt: how demonstrations are chosen, and how it is built."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptDemonstration:
    """A demonstration that the prompt shows.

    Attributes:
        id: the row's id, unique within its task.
        task: the task it belongs to.
        similarity: the number that ranks it; higher is nearer.
        rank: its place in the order of choice, from 1.
        tokens: those that it adds to the prompt as it stands with all that were chosen before it.
    """

    id: str
    task: str
    similarity: float
    rank: int
    tokens: int

    def to_json(self) -> dict[str, Json]:
        """Return its attributes by name."""
        return {
            "id": self.id,
            "task": self.task,
            "similarity": self.similarity,
            "rank": self.rank,
            "tokens": self.tokens,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class SpecialToken:
    """A text that stands in the data as it came, and that the tokenizer reads as one of its special tokens.

    Attributes:
        token: the text, such as ``<|im_start|>`` or ``[SEP]``.
        task: the task of the demonstration or query that holds it.
        id: the demonstration's id; None where the query holds it.
    """

    token: str
    task: str
    id: str | None

    def to_json(self) -> dict[str, Json]:
        """Return its attributes by name."""
        return {"token": self.token, "task": self.task, "id": self.id}


@dataclass(frozen=True, kw_only=True, slots=True)
class Truncation:
    """What was cut from the query so that it fits.

    Attributes:
        field: the field that was cut.
        kept: characters of its value that the prompt shows.
        length: characters of its value.
    """

    field: str
    kept: int
    length: int

    def to_json(self) -> dict[str, Json]:
        """Return its attributes by name."""
        return {"field": self.field, "kept": self.kept, "length": self.length}


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """A prompt that fits its budget: one of ``text``, ``messages`` and ``records``, the others are None.

    Attributes:
        text: the whole prompt; it ends before the space and the target.
        messages: the chat messages.
        records: of each demonstration its input fields by name, as the row has them, and ``target``.
        tokens: tokens of the text. Of messages: of what the tokenizer's chat template makes of them, up to where the
            answer begins; without a template, of their contents joined by blank lines, and ``message_tokens`` for each.
            Of records: of the text that would show them.
        demonstrations: those that it shows, in the order shown.
        special_tokens: where the data holds texts that the tokenizer reads as special tokens. They are left as they
            are; whether that is harmful, the caller knows.
        truncated: what was cut from the query, if anything was.
        decisions: what became of each candidate, the nearest first; empty unless the retrieval was asked to explain.
        index_version: the version of the index that the demonstrations came from, and
        model: the name of its encoder; None where they came from no retrieval.
    """

    text: str | None = None
    messages: tuple[Message, ...] | None = None
    records: tuple[Mapping[str, Value], ...] | None = None
    tokens: int
    demonstrations: tuple[PromptDemonstration, ...]
    special_tokens: tuple[SpecialToken, ...] = ()
    truncated: Truncation | None = None
    decisions: tuple[Decision, ...] = ()
    index_version: str | None = None
    model: str | None = None

    def to_json(self) -> dict[str, Json]:
        """Return ``prompt``, ``messages`` or ``records``, ``tokens`` and ``demonstrations``, and what else there is."""
        body = self._content() | {
            "tokens": self.tokens,
            "demonstrations": [demonstration.to_json() for demonstration in self.demonstrations],
        }
        if self.special_tokens:
            body["special_tokens"] = [token.to_json() for token in self.special_tokens]
        if self.truncated is not None:
            body["truncated"] = self.truncated.to_json()
        if self.decisions:
            body["decisions"] = [decision.to_json() for decision in self.decisions]
        if self.index_version is not None:
            body |= {"index_version": self.index_version, "model": self.model}
        return body

    def _content(self) -> dict[str, Json]:
        if self.messages is not None:
            return {"messages": [{"role": m["role"], "content": m["content"]} for m in self.messages]}
        if self.records is not None:
            return {"records": [dict(record) for record in self.records]}
        return {"prompt": self.text}
