"""Pairs: a query and a candidate, and the prompt that the language model reads for them."""

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
    """A language model's tokenizer."""

    @property
    def context(self) -> int:
        """The longest sequence of the model, in tokens."""

    def tokens(self, text: str, *, start: bool = False) -> Tokens:
        """Return the tokens of one segment of a prompt."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A training query and a candidate demonstration of the same task.

    Attributes:
        task: the task, which formats them.
        query: the query.
        demonstration: the demonstration to score.
        context: demonstrations shown before it, the same for all candidates of a query.
    """

    task: Task
    query: Row
    demonstration: Row
    context: tuple[Row, ...] = ()

    @property
    def shown(self) -> tuple[Row, ...]:
        """All demonstrations that the language model reads, in order."""
        return (*self.context, self.demonstration)

    @property
    def texts(self) -> tuple[list[str], str]:
        """The demonstrations and the query, as the language model reads them."""
        shown = [formatting.demonstration_text(self.task, row) for row in self.shown]
        return shown, formatting.query_prompt(self.task, self.query.input, self.query.choices)

    @property
    def key(self) -> PairKey:
        """The key of the pair's score."""
        shown, query = self.texts
        return PairKey.of((self.task.instruction, *shown), query, formatting.options(self.task, self.query))


def candidate_pairs(others: CandidatePool, queries: Sequence[Row], candidates: Candidates, context: int) -> list[Pair]:
    """Return the pairs of queries and their candidates.

    Args:
        others: the pool of the candidates.
        queries: rows of the same task, in the pool or not.
        candidates: demonstration ids by query id.
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
    """Return the text before a pair's options."""
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

    Each part is tokenised on its own, so that token boundaries do not depend on its neighbours. If the prompt exceeds
    the model's window, the ends of the demonstrations' inputs are cut, the longest first; outputs, query and options
    are never cut. Common demonstrations get at most half of the remaining room, so that they do not depend on the
    following ones (less if the following outputs need it).

    Args:
        lm: the tokenizer.
        task: the task, which formats the rows.
        query: the row to answer.
        demonstrations: rows, in the order shown.
        num_common: how many of the first demonstrations are shared by all prompts scored together; they are packed with
            the instruction.
        answer_tokens: room for the answer; None reserves what the longest option needs.

    Raises:
        FeedbackError: the prompt is too long even without the demonstrations' inputs.
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
            f"but the language model's window is {lm.context}; shorten the row or remove it"
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
    """Return the texts, the longest ones truncated, so that together they have at most ``room`` tokens."""
    limit = max(map(len, texts), default=0)
    while limit > 0 and sum(min(len(tokens), limit) for tokens in texts) > room:
        limit -= 1
    return [tokens[:limit] for tokens in texts]


def pair_prompt(lm: LMTokenizer, pair: Pair) -> Prompt:
    """Return the prompt of a pair; pairs with the same context share its tokens."""
    return prompt_of(lm, pair.task, pair.query, pair.shown, num_common=len(pair.context))
