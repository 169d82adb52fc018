"""From pairs to scores: word them, look them up, compute what is missing, normalise."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from udr import text
from udr.errors import FeedbackError
from udr.tasks import Kind, Normalise, Task
from udr.types import Row
from udr_training.feedback.packing import Prompt, Tokens
from udr_training.feedback.store import FeedbackStore, PairKey


class FeedbackLM(Protocol):
    """What a feedback language model is to the rest of udr."""

    fingerprint: str
    dtype: str

    @property
    def context(self) -> int:
        """The longest sequence the model takes, in tokens."""

    def tokens(self, text: str, *, start: bool = False) -> Tokens:
        """Return the tokens of one segment of a prompt."""

    def plan(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Say which prompts to score together."""

    def score(self, prompts: Sequence[Prompt]) -> list[NDArray[np.float64]]:
        """Return the options' log-likelihoods of prompts that were planned together."""


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
    def key(self) -> PairKey:
        """What the pair's score is stored under."""
        shown = [text.demonstration_text(self.task, row) for row in (*self.context, self.demonstration)]
        demonstration = (self.task.instruction, *shown)
        query = text.query_prompt(self.task, self.query.input, self.query.choices)
        return PairKey.of(demonstration, query, text.options(self.task, self.query))


def prompt_of(
    lm: FeedbackLM,
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
    query and options are never cut.

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
    instruction = lm.tokens(task.instruction + text.SEPARATOR, start=True)
    parts = [
        (
            lm.tokens(text.input_text(task, row.input, row.choices)),
            lm.tokens(f"\n{text.output_text(task, row.target)}{text.SEPARATOR}"),
        )
        for row in demonstrations
    ]
    last = lm.tokens(text.query_prompt(task, query.input, query.choices))
    options = tuple(lm.tokens(option) for option in text.options(task, query))
    answer = max(map(len, options)) - 1 if answer_tokens is None else answer_tokens
    fixed = len(instruction) + len(last) + answer + sum(len(output) for _, output in parts)
    if fixed > lm.context:
        raise FeedbackError(
            f"task {task.name!r}, row {query.id!r}: the prompt needs {fixed} tokens without any demonstration's input, "
            f"but the language model takes {lm.context}; shorten the row or leave it out"
        )
    inputs = cut_longest([input for input, _ in parts], lm.context - fixed)
    shown = tuple(input + output for input, (_, output) in zip(inputs, parts, strict=True))
    root = sum(shown[:num_common], instruction)
    return Prompt((root, *shown[num_common:], last), options)


def cut_longest(texts: Sequence[Tokens], room: int) -> list[Tokens]:
    """Return the texts, the longest cut at their ends until all together fit ``room`` tokens, or are empty."""
    limit = max(map(len, texts), default=0)
    while limit > 0 and sum(min(len(tokens), limit) for tokens in texts) > room:
        limit -= 1
    return [tokens[:limit] for tokens in texts]


def option_values(task: Task, log_likelihoods: NDArray[np.floating], num_tokens: Sequence[int]) -> NDArray[np.float64]:
    """Return what a task compares its options by: their log-likelihoods, or these per token.

    Args:
        task: says which; where it does not, classification sums, since its labels are the same for every query,
            and all else takes the mean.
        log_likelihoods: [num_options], sums over each option's tokens.
        num_tokens: [num_options], tokens of each option.
    """
    values = np.asarray(log_likelihoods, dtype=np.float64)
    default = Normalise.SUM if task.kind is Kind.CLASSIFICATION else Normalise.MEAN
    return values / np.asarray(num_tokens) if (task.normalise or default) is Normalise.MEAN else values


def score(task: Task, values: NDArray[np.float64], gold: int) -> float:
    """Return a demonstration's score from its options' values; higher is better (paper, section 3.2).

    Classification and multiple choice: the gold option's share, a softmax over the options. Generation: the
    target's value.

    Args:
        task: says which.
        values: [num_options], see ``option_values``.
        gold: the position of the right option.
    """
    if task.kind is Kind.GENERATION:
        return float(values[gold])
    shares = np.exp(values - values.max())
    return float(shares[gold] / shares.sum())


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a scoring run is."""

    done: int
    total: int
    seconds: float


def score_pairs(
    lm: FeedbackLM,
    store: FeedbackStore,
    pairs: Iterable[Pair],
    progress: Callable[[Progress], None] = lambda _: None,
) -> dict[tuple[str, str], float]:
    """Return the score of each pair by (query id, demonstration id), computing and storing what is missing.

    Args:
        lm: the language model that ``store`` was opened for.
        store: where log-likelihoods are kept; written after every pack, so a kill loses one pack at most.
        pairs: of one task.
        progress: called after every pack.
    """
    keyed = [(pair.key, pair) for pair in pairs]
    # Copies under other ids share a key: they are scored once, and each has its place in the answer.
    distinct = dict(keyed)
    known = store.get(distinct)
    missing = [key for key in distinct if key not in known]
    prompts = [_prompt(lm, distinct[key]) for key in missing]
    started, done = time.monotonic(), 0
    for numbers in lm.plan(prompts):
        values = lm.score([prompts[number] for number in numbers])
        store.put({missing[number]: value for number, value in zip(numbers, values, strict=True)})
        done += len(numbers)
        progress(Progress(done, len(missing), time.monotonic() - started))
    known |= store.get(missing)
    return {(pair.query.id, pair.demonstration.id): _score_of(lm, pair, known[key]) for key, pair in keyed}


def _prompt(lm: FeedbackLM, pair: Pair) -> Prompt:
    shown = [*pair.context, pair.demonstration]
    return prompt_of(lm, pair.task, pair.query, shown, num_common=len(pair.context))


def _score_of(lm: FeedbackLM, pair: Pair, log_likelihoods: NDArray[np.floating]) -> float:
    num_tokens = [len(lm.tokens(option)) for option in text.options(pair.task, pair.query)]
    return score(pair.task, option_values(pair.task, log_likelihoods, num_tokens), text.gold(pair.task, pair.query))
