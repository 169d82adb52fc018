"""Prompts: the texts that the language model reads, each rendered once, and their tokens."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from udr.data import Task, formatting
from udr.errors import FeedbackError
from udr.types import Row
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
class PromptText:
    """The texts of a prompt.

    Attributes:
        task: the task.
        row: the query's row.
        demonstrations: the input and the output of each demonstration, in the order shown.
        query: the prompt's last part.
        options: the continuations to score.
        shown: the ids of the demonstrations.
        basis: see ``Pair``.
    """

    task: Task
    row: Row
    demonstrations: tuple[tuple[str, str], ...]
    query: str
    options: tuple[str, ...]
    shown: tuple[str, ...]
    basis: str = ""

    @property
    def before_options(self) -> str:
        """The whole text before the options."""
        return formatting.prompt(self.task.instruction, ["\n".join(parts) for parts in self.demonstrations], self.query)

    @property
    def key(self) -> PairKey:
        """The key of the options' scores."""
        shown = ["\n".join(parts) for parts in self.demonstrations]
        return PairKey.of((self.task.instruction, *shown, *filter(None, [self.basis])), self.query, self.options)

    def tokenize(self, lm: LMTokenizer, *, num_common: int = 0, answer_tokens: int | None = None) -> Prompt:
        """Return the prompt as tokens.

        Each part is tokenised on its own, so that token boundaries do not depend on its neighbours. If the prompt
        exceeds the model's window, the ends of the demonstrations' inputs are cut, the longest first; outputs, query
        and options are never cut. Common demonstrations get at most half of the remaining room, so that they do not
        depend on the following ones (less if the following outputs need it).

        Args:
            lm: the tokenizer.
            num_common: how many of the first demonstrations are shared by all prompts scored together; they are packed
                with the instruction.
            answer_tokens: room for the answer; None reserves what the longest option needs.

        Raises:
            FeedbackError: the prompt is too long even without the demonstrations' inputs.
        """
        instruction = lm.tokens(self.task.instruction + formatting.SEPARATOR, start=True)
        inputs = [lm.tokens(input) for input, _ in self.demonstrations]
        outputs = [lm.tokens(f"\n{output}{formatting.SEPARATOR}") for _, output in self.demonstrations]
        query = lm.tokens(self.query)
        options = tuple(map(lm.tokens, self.options))
        answer = max(map(len, options)) - 1 if answer_tokens is None else answer_tokens
        fixed = len(instruction) + len(query) + answer + sum(map(len, outputs))
        if fixed > lm.context:
            longest = max(range(len(outputs)), key=lambda n: len(outputs[n]), default=None)
            own, long = len(query) + (answer if answer_tokens is None else 0), "the row"
            if longest is not None and len(outputs[longest]) > own:
                long = (
                    f"row {self.shown[longest]!r}, a demonstration whose target needs {len(outputs[longest])} tokens,"
                )
            raise FeedbackError(
                f"task {self.task.name!r}, row {self.row.id!r}: the prompt needs {fixed} tokens without any "
                f"demonstration's input ({len(outputs)} shown), but the language model's window is {lm.context}; "
                f"shorten {long} or remove it"
            )
        room = lm.context - fixed
        common_room = min(room, (room + sum(map(len, outputs[num_common:]))) // 2)
        cut = cut_longest(inputs[:num_common], common_room)
        cut += cut_longest(inputs[num_common:], room - sum(map(len, cut)))
        shown = tuple(input + output for input, output in zip(cut, outputs, strict=True))
        root = sum(shown[:num_common], instruction)
        lost = sum(map(len, inputs)) - sum(map(len, cut))
        return Prompt((root, *shown[num_common:], query), options, lost)


@dataclass(frozen=True, slots=True)
class PromptRenderer:
    """Renders prompts of one task; each row, known by its id, once as a demonstration and once as a query."""

    _demonstrations: dict[str, tuple[str, str]] = field(default_factory=dict)
    _queries: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)

    def render(self, task: Task, query: Row, demonstrations: Sequence[Row]) -> PromptText:
        """Return the texts of the prompt that shows ``demonstrations``, in this order, before the query."""
        if query.id not in self._queries:
            text = formatting.query_prompt(task, query.input, query.choices)
            self._queries[query.id] = text, formatting.options(task, query)
        for row in demonstrations:
            if row.id not in self._demonstrations:
                text = formatting.input_text(task, row.input, row.choices)
                self._demonstrations[row.id] = text, formatting.output_text(task, row.target)
        shown = tuple(self._demonstrations[row.id] for row in demonstrations)
        return PromptText(task, query, shown, *self._queries[query.id], tuple(row.id for row in demonstrations))


def prompt_of(
    lm: LMTokenizer, task: Task, query: Row, demonstrations: Sequence[Row], *, answer_tokens: int | None = None
) -> Prompt:
    """Return the tokens of the prompt that shows ``demonstrations`` before the query; see ``PromptText.tokenize``."""
    return PromptRenderer().render(task, query, demonstrations).tokenize(lm, answer_tokens=answer_tokens)


def cut_longest(texts: Sequence[Tokens], room: int) -> list[Tokens]:
    """Return the texts, the longest ones truncated, so that together they have at most ``room`` tokens."""
    limits = range(max(map(len, texts), default=0) + 1)
    fitting = bisect_right(limits, room, key=lambda limit: sum(min(len(tokens), limit) for tokens in texts))
    return [tokens[: max(0, fitting - 1)] for tokens in texts]
