"""Answers to queries that a language model in this process writes, and feedback by their metric."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Protocol

from udr.data import Pool
from udr_training.answering import answer_room, ends_of
from udr_training.feedback.packing import Likelihoods, Prompt, Tokens
from udr_training.feedback.pairs import Pair
from udr_training.feedback.prompts import prompt_of
from udr_training.feedback.scoring import PackingLM, PairScorer, answer_score, as_likelihoods
from udr_training.feedback.store import Work

# An answer may be longer than the pool's longest target by this.
_EXTRA_TOKENS = 8
# Pairs whose answers are written and stored together: enough for batches, few enough to lose.
_BLOCK = 64


class WritingLM(PackingLM, Protocol):
    """A language model that writes."""

    def generate(
        self,
        prompts: Sequence[Tokens],
        stop: Sequence[str],
        max_new_tokens: int,
        on_done: Callable[[int], None] = ...,
        *,
        empty: bool = ...,
    ) -> list[str]:
        """Return each prompt's continuation, cut before the first of the stop texts; whether it may be ``empty``."""


class Writer:
    """Writes answers to queries of a generation task: greedily, and about as long as the pool's targets at most.

    Args:
        lm: the language model.
        pool: of the task; its targets determine when an answer ends.
    """

    def __init__(self, lm: WritingLM, pool: Pool) -> None:
        self._lm, self._pool = lm, pool

    @cached_property
    def room(self) -> int:
        """The most tokens of an answer."""
        needed = [len(self._lm.tokens(row.target)) + _EXTRA_TOKENS for row in self._pool.rows]
        return answer_room(self._pool.task, self._pool.rows, needed, self._lm.context, "language model's window")

    def write(self, prompts: Sequence[Prompt], on_done: Callable[[int], None] = lambda _: None) -> list[str]:
        """Return the answer to each prompt; ``on_done`` is called with the number of answers, now and then.

        Raises:
            FeedbackError: memory is too small for one prompt.
        """
        # Or else a model that answers with the blank line after an empty target would go on.
        empty = not all(row.target.strip() for row in self._pool.rows)
        contexts, ends = [prompt.context for prompt in prompts], ends_of(self._pool)
        texts = self._lm.generate(contexts, [ends] if ends else [], self.room, on_done, empty=empty)
        tail = self._pool.task.output.source.partition("{target}")[2].rstrip()
        return [text.removesuffix(tail).rstrip() for text in texts]


class WrittenMetric(PairScorer):
    """Scores pairs of a generation task by the metric, 0 to 1, of the answer that a language model writes.

    Args:
        lm: the language model.
        pool: of the task.
    """

    dtype = "metric"

    def __init__(self, lm: WritingLM, pool: Pool) -> None:
        self._lm, self._writer = lm, Writer(lm, pool)
        text = json.dumps([lm.fingerprint, lm.dtype, self._writer.room, ends_of(pool)])
        self.fingerprint = f"written-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @property
    def spent(self) -> str:
        """See ``PairScorer``."""
        return ""

    def check(self, pairs: Sequence[Pair]) -> None:
        """See ``PairScorer``."""

    def batches(self, pairs: Sequence[Pair]) -> Iterator[list[int]]:
        """See ``PairScorer``."""
        for start in range(0, len(pairs), _BLOCK):
            yield list(range(start, min(start + _BLOCK, len(pairs))))

    def score_pairs(self, pairs: Sequence[Pair]) -> tuple[list[Likelihoods], Work]:
        """See ``PairScorer``."""
        started = time.monotonic()
        prompts = [self._prompt(pair) for pair in pairs]
        texts = self._writer.write(prompts)
        values = [answer_score(pair, text) for pair, text in zip(pairs, texts, strict=True)]
        work = Work(
            pairs=len(pairs),
            tokens=sum(prompt.num_tokens for prompt in prompts),
            cut=sum(prompt.lost > 0 for prompt in prompts),
            lost=sum(prompt.lost for prompt in prompts),
            seconds=time.monotonic() - started,
        )
        return [as_likelihoods(pair.task, pair.query, value) for pair, value in zip(pairs, values, strict=True)], work

    def _prompt(self, pair: Pair) -> Prompt:
        shown = (*pair.context, pair.demonstration)
        return prompt_of(self._lm, pair.task, pair.query, shown, answer_tokens=self._writer.room)

    def report(self) -> None:
        """See ``PairScorer``."""
