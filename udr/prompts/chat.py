"""Prompts as chat messages, counted as a tokenizer's chat template renders them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from udr.data import Task, formatting
from udr.models import ChatCounter, Message
from udr.prompts.budget import Block, PromptLayout
from udr.prompts.types import Layout
from udr.retrieval import RetrievedDemonstration

# Characters of a message that a template's own text may merge with; few, so that many turns share them.
_EDGE = 8


def turns(task: Task, demonstration: RetrievedDemonstration) -> tuple[str, str]:
    """Split a demonstration's text into the user's turn and the assistant's.

    The assistant's turn is the target as the text ends with it: verbalised, and with the rest of the output template
    if the demonstration is of this task. The output template of another task is not known here; if its text does not
    end with the bare target, the assistant's turn is the last line.
    """
    text, answer = demonstration.text, demonstration.target
    if demonstration.task == task.name:
        answer = formatting.output_text(task, answer).removeprefix(task.output.source.partition("{target}")[0])
        if not answer:
            return text.rstrip(" "), ""
    if not answer or not text.endswith(answer):
        answer = text.rpartition("\n")[2]
    return text.removesuffix(answer).rstrip(" "), answer


def messages(layout: Layout, instruction: str, shown: Sequence[Block], query: str) -> tuple[Message, ...]:
    """Return the chat that shows these demonstrations, in this order, and ends with the query."""
    if layout is Layout.SYSTEM:
        instruction = formatting.SEPARATOR.join([instruction, *(part for block in shown for part in block.parts)])
        shown = ()
    demonstrations = [
        Message(role=role, content=part)
        for block in shown
        for role, part in zip(("user", "assistant"), block.parts, strict=True)
    ]
    return (Message(role="system", content=instruction), *demonstrations, Message(role="user", content=query))


@dataclass(eq=False)
class ChatLayout(PromptLayout):
    """A prompt counted as the tokenizer's chat template renders it, up to where the answer begins.

    Attributes:
        counter: counts texts and chats.
        layout: where the chat shows the demonstrations, which have two parts for turns, and one for the system message.
    """

    counter: ChatCounter
    layout: Layout = Layout.TURNS

    def __post_init__(self) -> None:
        super().__post_init__()
        self._wrap = cache(self._template_tokens)

    def count(self, shown: Sequence[int]) -> int:
        """Return the tokens of the whole chat that shows these positions, in this order."""
        return self._count(self.instruction, [self.blocks[n] for n in shown], self.query)

    def weight(self, block: Block) -> int:
        """Return the tokens of a demonstration: its parts, and what the template adds to turns."""
        if self.layout is Layout.SYSTEM:
            return self.contents(block)
        return self.contents(block) + self._wrap(tuple(map(_edges, block.parts)))

    def join(self, before: int | None, after: int | None) -> int:
        """Return the tokens that joining two neighbours adds: 0, unless both are in the system message."""
        # Templates separate messages by special tokens.
        return 0 if self.layout is Layout.TURNS or after is None else super().join(before, after)

    def _template_tokens(self, parts: tuple[str, ...]) -> int:
        """Return the tokens that the template adds to turns with these edges."""
        instruction, query = _edges(self.instruction), _edges(self.query)
        added = self._count(instruction, [Block(parts)], query) - self._count(instruction, [], query)
        return added - sum(map(self.token_counts.edge, parts))

    def _count(self, instruction: str, shown: Sequence[Block], query: str) -> int:
        return self.counter.count_messages(messages(self.layout, instruction, shown, query))


def _edges(part: str) -> str:
    """Return the first and last characters of a text, joined; a short text unchanged."""
    return part if len(part) <= 2 * _EDGE else part[:_EDGE] + part[-_EDGE:]
