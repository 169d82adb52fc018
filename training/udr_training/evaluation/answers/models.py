"""What an evaluation asks of the model that answers, and the one in this process."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from udr.data import Pool, Task
from udr.types import Json
from udr_training.evaluation.answers.predict import AnsweringLM, predict
from udr_training.evaluation.answers.predictions import Answering
from udr_training.feedback import FeedbackLM, PairScorer, ScatteredLM
from udr_training.feedback.local import Writer


class AnsweringModel(Protocol):
    """A language model in an evaluation, in this process or behind a server."""

    @property
    def name(self) -> str:
        """The model's name, as requested."""

    @property
    def fingerprint(self) -> str:
        """A hash of the model, or of a server's address."""

    @property
    def dtype(self) -> str:
        """The precision of its weights, or what a server is asked by."""

    @property
    def settings(self) -> Mapping[str, Json]:
        """What else its answers depend on."""

    @property
    def spent(self) -> str:
        """What its answers have cost, in words; empty if they cost nothing."""

    @property
    def note(self) -> str:
        """What to say beside the progress of its answers; may be empty."""

    def scorer(self, task: Task) -> FeedbackLM | ScatteredLM | PairScorer:
        """Return the model as the oracle uses it for a task; errors as ``load_lm``."""

    def answering(self, pool: Pool) -> Answering:
        """Return what answers the queries of a pool's task, which reads the pool once for all of them."""


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A language model in this process, or on workers: it chooses the likeliest option, or generates."""

    lm: AnsweringLM

    @property
    def name(self) -> str:
        """See ``AnsweringModel``."""
        return self.lm.name

    @property
    def fingerprint(self) -> str:
        """See ``AnsweringModel``."""
        return self.lm.fingerprint

    @property
    def dtype(self) -> str:
        """See ``AnsweringModel``."""
        return self.lm.dtype

    @property
    def settings(self) -> dict[str, Json]:
        """See ``AnsweringModel``."""
        return {}

    @property
    def spent(self) -> str:
        """See ``AnsweringModel``."""
        return ""

    @property
    def note(self) -> str:
        """See ``AnsweringModel``."""
        return self.lm.spent if isinstance(self.lm, ScatteredLM) else ""

    def scorer(self, task: Task) -> FeedbackLM | ScatteredLM:
        """See ``AnsweringModel``."""
        return self.lm

    def answering(self, pool: Pool) -> Answering:
        """See ``AnsweringModel``."""
        return partial(predict, self.lm, pool, writer=Writer(self.lm, pool))
