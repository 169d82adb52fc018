"""The demonstrations that a chat is shown, as messages or as a text, and what they cost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from udr.data import Task, formatting
from udr.models import Message, TokenCounter
from udr.prompts import Layout, arranged, turns
from udr.retrieval import RetrievedDemonstration
from udr_service.schemas import ChatOptions

DEMONSTRATIONS, TASK, TOKENS = "X-Udr-Demonstrations", "X-Udr-Task", "X-Udr-Tokens"
"""The headers of an answer: the ids of the demonstrations, in the order shown; their task; the tokens that they add."""

PROMPT_ID = "X-Udr-Prompt-Id"
"""The header with the name by which the outcome of the chat can be told."""

_MOST_CHARACTERS = 4096
"""Of ids in a header: clients and proxies take about 8 KiB of headers in all."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The demonstrations that a chat is shown, in that order, and the parts of each: a text, or two turns.

    Attributes:
        demonstrations: as they were retrieved.
        parts: for each, its text; or the user's turn and the assistant's.
        tokens: of all parts, without what a chat template adds.
    """

    demonstrations: Sequence[RetrievedDemonstration]
    parts: Sequence[tuple[str, ...]]
    tokens: int

    @property
    def text(self) -> str:
        """All parts as one text."""
        return formatting.SEPARATOR.join(part for parts in self.parts for part in parts)

    def turns(self) -> Iterator[Message]:
        """Yield all parts as messages."""
        for parts in self.parts:
            for role, part in zip(("user", "assistant"), parts, strict=True):
                yield Message(role=role, content=part)

    def headers(self, task: str) -> dict[str, str]:
        """Return the headers that tell of them; ids as in a URL, so that a comma or a plus sign is none of theirs."""
        ids = [quote(demonstration.id) for demonstration in self.demonstrations]
        told, length = 0, 0
        while told < len(ids) and (length := length + len(ids[told]) + 1) <= _MOST_CHARACTERS:
            told += 1
        more = [f"+{len(ids) - told}"] if told < len(ids) else []
        return {TASK: task, DEMONSTRATIONS: ",".join([*ids[:told], *more]), TOKENS: str(self.tokens)}


def shown(
    task: Task,
    query: str,
    retrieved: Sequence[RetrievedDemonstration],
    options: ChatOptions,
    counter: TokenCounter,
    *,
    plain: bool,
    budget: int | None,
) -> Shown:
    """Return the demonstrations to show: all, or as many as fit the budget, each in turn unless it does not fit.

    Args:
        task: the demonstrations' task.
        query: its text, by which a shuffle is seeded.
        retrieved: in the order of choice.
        options: their order and layout.
        counter: counts tokens.
        plain: show the task's one field and the target alone, as the query is; else both in the task's templates.
        budget: the tokens that they may add; None for all.
    """
    around = counter.count("")
    parts = [_parts(task, each, options.layout, plain) for each in retrieved]
    tokens, taken, left = [sum(counter.count(part) - around for part in each) for each in parts], [], budget
    for position, count in enumerate(tokens):
        if left is None or count <= left:
            taken.append(position)
            left = None if left is None else left - count
    order = arranged(options.order, retrieved, query, options.seed)(taken)
    return Shown([retrieved[n] for n in order], [parts[n] for n in order], sum(tokens[n] for n in taken))


def _parts(task: Task, demonstration: RetrievedDemonstration, layout: Layout, plain: bool) -> tuple[str, ...]:
    if layout is Layout.SYSTEM:
        return (demonstration.text,)
    if not plain:
        return turns(task, demonstration)
    (text,) = formatting.field_texts(demonstration.input, task.fields, demonstration.choices)
    return text, formatting.verbalised(task, demonstration.target)
