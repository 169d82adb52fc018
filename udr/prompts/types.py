"""The parts of a prompt; ``PromptBuilder`` builds it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypedDict

from udr.models import Message
from udr.prompts.ordering import Order
from udr.retrieval import Decision, JsonObject, Ranked, SelectionOptions
from udr.types import Json, Value


class Format(StrEnum):
    """The form of a prompt."""

    TEXT = "text"
    """One text, which a language model continues with the target."""

    MESSAGES = "messages"
    """Chat messages: the instruction as system message, the query as the user's last turn; see ``Layout``."""

    RECORDS = "records"
    """The demonstrations as records, for callers that build their own prompt; counted as text."""


class Layout(StrEnum):
    """Where chat messages show the demonstrations."""

    TURNS = "turns"
    """Each as a turn of the user and one of the assistant."""

    SYSTEM = "system"
    """All in the system message, after the instruction."""


class BuildingOptions(TypedDict, total=False):
    """Options of ``PromptBuilder``, except tokenizer, budget and reserve."""

    order: Order
    seed: int
    layout: Layout
    message_tokens: int | None
    list_options: bool
    truncate: str | None


class PromptOptions(SelectionOptions, BuildingOptions, total=False):
    """Options of a call for a prompt: how to choose demonstrations, and how to build it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptDemonstration(Ranked):
    """A demonstration that the prompt shows.

    Attributes:
        id: the row's id, unique within its task.
        task: the task it belongs to.
        similarity: higher is nearer.
        rank: its position in the order of choice, from 1.
        tokens: tokens that it adds to the prompt with all demonstrations chosen before it.
        ranking_score: the number that ranks it, if that is not its similarity.
    """

    id: str
    task: str
    similarity: float
    rank: int
    tokens: int
    ranking_score: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SpecialToken(JsonObject):
    """A text in the data that the tokenizer reads as one of its special tokens.

    Attributes:
        token: the text, such as ``<|im_start|>`` or ``[SEP]``.
        task: the task of the demonstration or query that contains it.
        id: the demonstration's id; None for the query.
    """

    token: str
    task: str
    id: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Truncation(JsonObject):
    """How the query was truncated.

    Attributes:
        field: the truncated field.
        kept: characters of its value that the prompt shows.
        length: characters of its value.
    """

    field: str
    kept: int
    length: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PartTokens(JsonObject):
    """The tokens of a prompt by part, each counted alone; all but the reserve add up to the prompt's tokens.

    Attributes:
        instruction: the task's instruction.
        listing: the list of possible answers, if there is one.
        demonstrations: all demonstrations together, with the joins around each.
        query: the query, up to the answer.
        joins: what separates the parts, and what a chat template adds; negative if tokens merge.
        reserve: tokens of the budget kept for the answer.
    """

    instruction: int
    listing: int
    demonstrations: int
    query: int
    joins: int
    reserve: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt(JsonObject):
    """A prompt that fits its budget: one of ``text``, ``messages`` and ``records``; the others are None.

    Attributes:
        text: the whole prompt, up to the space before the target.
        messages: the chat messages.
        records: for each demonstration its input fields by name, as in the row, and ``target``.
        tokens: tokens of the text. For messages: of the chat as the tokenizer's template renders it, up to where the
            answer begins; without a template, of their contents joined by blank lines, plus ``message_tokens`` each.
            For records: of the text that would show them.
        demonstrations: the demonstrations that it shows, in the order shown.
        special_tokens: texts in the data that the tokenizer reads as special tokens, left unchanged.
        truncated: how the query was truncated, if it was.
        parts: the tokens by part.
        filled: how many demonstrations beyond the requested k it shows, if the request fills.
        skipped: how many of the demonstrations given, or of the requested k, do not fit the budget.
        copies: how many demonstrations the retrieval left out as copies of the query.
        decisions: the outcome for each candidate, nearest first; empty unless the retrieval was explained.
        index_version: the index version of the demonstrations; None if they are not from a retrieval.
        overlay_position: the number of the last write to the index that the retrieval knows of; 0 if there was none.
        model: the name of its encoder; None likewise.
        tokenizer: the name of the tokenizer that counted, if it has one.
        missing_shards: the shards whose rows the retrieval could not see; see ``Retrieval``.
        prompt_id: the name by which ``Client.outcome`` reports its outcome to a service; None if it is not
            from a service, or that keeps nothing of its use. Prompts that are equal may have different ones.
    """

    text: str | None = None
    messages: tuple[Message, ...] | None = None
    records: tuple[Mapping[str, Value], ...] | None = None
    tokens: int
    demonstrations: tuple[PromptDemonstration, ...]
    special_tokens: tuple[SpecialToken, ...] = ()
    truncated: Truncation | None = None
    parts: PartTokens | None = None
    filled: int = 0
    skipped: int = 0
    copies: int = 0
    decisions: tuple[Decision, ...] = ()
    index_version: str | None = None
    overlay_position: int = 0
    model: str | None = None
    tokenizer: str | None = None
    missing_shards: tuple[str, ...] = ()
    prompt_id: str | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, Json]:
        """Return its JSON; the text's key is ``prompt``."""
        return {"prompt" if name == "text" else name: value for name, value in JsonObject.to_json(self).items()}
