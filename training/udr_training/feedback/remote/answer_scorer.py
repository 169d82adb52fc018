"""Feedback by a model that answers: what all kinds share. Prompts are those of ``udr.PromptBuilder``."""

import hashlib
import json
import logging
import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence

from udr.errors import FeedbackError, TooLongError
from udr.prompts import Format, Order
from udr.types import Json
from udr_training.answering import BUDGET, Api, PromptSettings, PromptWriter, Question, Reply, ServerLM
from udr_training.feedback.packing import Likelihoods
from udr_training.feedback.pairs import Pair
from udr_training.feedback.scoring import PairScorer
from udr_training.feedback.store import Work

_LOG = logging.getLogger(__name__)

# Pairs whose scores are stored in one commit, at least, and for each open request: enough to keep requests open, few
# enough for progress. Each answer is kept when it arrives.
_BATCH, _BATCH_PER_REQUEST = 64, 8


class AnswerScorer(PairScorer):
    """Scores pairs by the answers of a server.

    Args:
        lm: the server's model.
        prompts: how prompts are built.
        identity: what else the scores depend on.

    Attributes:
        fingerprint: a hash of the server's address and settings, of the prompts' and of ``identity``.
        dtype: the kind of feedback, by which its scores are kept apart.
    """

    dtype: str
    _built = _fewer = 0

    def __init__(self, lm: ServerLM, prompts: PromptSettings, identity: Sequence[Json] = ()) -> None:
        self._lm, self._prompts = lm, prompts
        self._writer = PromptWriter(prompts, Format.MESSAGES if lm.api is Api.CHAT else Format.TEXT)
        text = json.dumps([lm.fingerprint, prompts.to_json(), list(identity)], sort_keys=True)
        self.fingerprint = f"{self.dtype}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @property
    def spent(self) -> str:
        """See ``PairScorer``."""
        return self._lm.spent

    def batches(self, pairs: Sequence[Pair]) -> Iterator[list[int]]:
        """See ``PairScorer``."""
        size = max(_BATCH, _BATCH_PER_REQUEST * self._lm.concurrency)
        for start in range(0, len(pairs), size):
            yield list(range(start, min(start + size, len(pairs))))

    def check(self, pairs: Sequence[Pair]) -> None:
        """See ``PairScorer``."""
        try:
            questions = self._probe()
        except TooLongError as error:
            raise TooLongError(
                f"the known texts by which {self._lm.name} is tried do not fit the budget of {self._prompts.budget} "
                f"tokens ({BUDGET}); raise it"
            ) from error
        replies = self._lm.ask(questions)
        try:
            self._judge(replies)
        except FeedbackError:
            # A server that is mended is asked again.
            self._lm.forget(questions)
            raise

    @abstractmethod
    def _probe(self) -> list[Question]:
        """Return the questions on known texts."""

    @abstractmethod
    def _judge(self, replies: Sequence[Reply]) -> None:
        """Raise a ``FeedbackError`` unless the replies to them show that the server's answers are feedback."""

    def score_pairs(self, pairs: Sequence[Pair]) -> tuple[list[Likelihoods], Work]:
        """See ``PairScorer``."""
        started, before = time.monotonic(), self._lm.meter.spend.tokens
        likelihoods = self._score(pairs)
        tokens, seconds = self._lm.meter.spend.tokens - before, time.monotonic() - started
        return likelihoods, Work(pairs=len(pairs), tokens=tokens, seconds=seconds)

    @abstractmethod
    def _score(self, pairs: Sequence[Pair]) -> list[Likelihoods]:
        """Return the likelihoods of the options of each pair."""

    def _question(self, pair: Pair, max_tokens: int, fields: dict[str, Json], sample: int = 0) -> Question:
        """Return a question with a pair's prompt: its context, then its demonstration, then its query."""
        rows = (pair.demonstration, *reversed(pair.context))
        built = self._writer.build(pair.task, pair.query, rows, Order.NEAREST_LAST, 0, max_tokens)
        about = f"task {pair.task.name!r}, query {pair.query.id!r}"
        if pair.demonstration.id not in built.shown:
            raise FeedbackError(
                f"{about}: demonstration {pair.demonstration.id!r} does not fit the budget of {self._prompts.budget} "
                f"tokens ({BUDGET}); raise it, or remove the row"
            )
        self._built += 1
        self._fewer += len(built.shown) < len(rows)
        return Question(built.prompt, max_tokens, fields, sample, about=f"{about} after {', '.join(built.shown)}")

    def report(self) -> None:
        """See ``PairScorer``."""
        if self._fewer:
            message = (
                "%s: %d of %d prompts leave out demonstrations of --context, to fit the budget of %d tokens, so "
                "candidates of a query may follow different ones; raise it (%s)"
            )
            _LOG.warning(message, self.dtype, self._fewer, self._built, self._prompts.budget, BUDGET)
