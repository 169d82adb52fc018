"""What a language model reads: a query's prompt with the demonstrations before it, in tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from udr.data import Task, formatting
from udr.errors import FeedbackError
from udr.types import Row
from udr_training.candidates import CandidatePool, Candidates
from udr_training.feedback.packing import Prompt, Tokens
from udr_training.feedback.store import PairKey


class LMTokenizer(Protocol):
    """How a language model cuts texts into tokens."""

    @property
    def context(self) -> int:
        """The longest sequence the model takes, in tokens."""

    def tokens(self, text: str, *, start: bool = False) -> Tokens:
        """Return the tokens of one segment of a prompt."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A training query and a candidate demonstration for it, of one task.

    Attributes:
        task: words them.
        query: the query.
        demonstration: the demonstration that is scored.
        context: demonstrations shown before it, the same for all pairs that are compared.
    """

    task: Task
    query: Row
    demonstration: Row
    context: tuple[Row, ...] = ()

    @property
    def shown(self) -> tuple[Row, ...]:
        """All demonstrations that the language model reads, in their order."""
        return (*self.context, self.demonstration)

    @property
    def texts(self) -> tuple[list[str], str]:
        """The demonstrations and the query, as the language model reads them."""
        shown = [formatting.demonstration_text(self.task, row) for row in self.shown]
        return shown, formatting.query_prompt(self.task, self.query.input, self.query.choices)

    @property
    def key(self) -> PairKey:
        """What the pair's score is stored under."""
        shown, query = self.texts
        return PairKey.of((self.task.instruction, *shown), query, formatting.options(self.task, self.query))


def candidate_pairs(others: CandidatePool, queries: Sequence[Row], candidates: Candidates, context: int) -> list[Pair]:
    """Return the pairs of queries and their candidates, as they are scored.

    Args:
        others: the pool that the candidates come from.
        queries: rows of the same task, members of the pool or not.
        candidates: of each query.
        context: demonstrations shown before each candidate.
    """
    rows = {row.id: row for row in others.pool.rows}
    return [
        Pair(others.pool.task, query, rows[id], shown)
        for query in queries
        for shown in [others.context(query, context)]
        for id in candidates[query.id]
    ]


def pair_text(pair: Pair) -> str:
    """Return the text that a pair's options follow."""
    return formatting.prompt(pair.task.instruction, *pair.texts)


def prompt_of(
    lm: LMTokenizer,
    task: Task,
    query: Row,
    demonstrations: Sequence[Row],
    *,
    num_common: int = 0,
    answer_tokens: int | None = None,
) -> Prompt:
    """Return the prompt that shows ``demonstrations``, in this order, before the query, with the query's options.

    Each part is tokenised on its own, so that token boundaries are the same whatever stands beside it. Where the
    whole is longer than the model takes, the demonstrations' inputs lose their ends, the longest first; outputs,
    query and options are never cut. Common demonstrations may take half of the room that is left, so that they are
    the same whatever follows them (less only where the outputs that follow need it).

    Args:
        lm: whose tokens they are.
        task: words them.
        query: the row to answer.
        demonstrations: rows, in the order shown.
        num_common: how many of them, from the first, all prompts that are scored together share; they are packed
            with the instruction.
        answer_tokens: room to leave for the answer; None leaves what the longest option needs.

    Raises:
        FeedbackError: even without the demonstrations' inputs it is too long.
    """
    instruction = lm.tokens(task.instruction + formatting.SEPARATOR, start=True)
    parts = [
        (
            lm.tokens(formatting.input_text(task, row.input, row.choices)),
            lm.tokens(f"\n{formatting.output_text(task, row.target)}{formatting.SEPARATOR}"),
        )
        for row in demonstrations
    ]
    last = lm.tokens(formatting.query_prompt(task, query.input, query.choices))
    options = tuple(lm.tokens(option) for option in formatting.options(task, query))
    answer = max(map(len, options)) - 1 if answer_tokens is None else answer_tokens
    outputs = [len(output) for _, output in parts]
    fixed = len(instruction) + len(last) + answer + sum(outputs)
    if fixed > lm.context:
        raise FeedbackError(
            f"task {task.name!r}, row {query.id!r}: the prompt needs {fixed} tokens without any demonstration's input, "
            f"but the language model takes {lm.context}; shorten the row or leave it out"
        )
    room = lm.context - fixed
    common_room = min(room, (room + sum(outputs[num_common:])) // 2)
    inputs = cut_longest([input for input, _ in parts[:num_common]], common_room)
    inputs += cut_longest([input for input, _ in parts[num_common:]], room - sum(map(len, inputs)))
    shown = tuple(input + output for input, (_, output) in zip(inputs, parts, strict=True))
    root = sum(shown[:num_common], instruction)
    lost = sum(len(input) for input, _ in parts) - sum(map(len, inputs))
    return Prompt((root, *shown[num_common:], last), options, lost)


def cut_longest(texts: Sequence[Tokens], room: int) -> list[Tokens]:
    """Return the texts, the longest cut at their ends until all together fit ``room`` tokens, or are empty."""
    limit = max(map(len, texts), default=0)
    while limit > 0 and sum(min(len(tokens), limit) for tokens in texts) > room:
        limit -= 1
    return [tokens[:limit] for tokens in texts]


def pair_prompt(lm: LMTokenizer, pair: Pair) -> Prompt:
    """Return the prompt of a pair; those of one context share it."""
    return prompt_of(lm, pair.task, pair.query, pair.shown, num_common=len(pair.context))
