"""What scores pairs: a language model in this process, one that workers hold, or another kind of feedback."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from udr.models import Done, Shard
from udr_training.feedback.packing import Likelihoods, Prompt
from udr_training.feedback.pairs import Pair
from udr_training.feedback.prompts import LMTokenizer
from udr_training.feedback.store import Work


class PairScorer(ABC):
    """Feedback that scores pairs in another way than by the likelihoods of a prompt's tokens.

    Attributes:
        fingerprint: a hash of all that its scores depend on, beside the pairs.
        dtype: the kind of feedback.
    """

    fingerprint: str
    dtype: str

    @property
    @abstractmethod
    def spent(self) -> str:
        """What its scores have cost, in words."""

    @abstractmethod
    def check(self, pairs: Sequence[Pair]) -> None:
        """Raise a ``UdrError`` if it cannot score such pairs; asks its model about known texts, once."""

    @abstractmethod
    def batches(self, pairs: Sequence[Pair]) -> Iterator[list[int]]:
        """Yield which pairs to score and store together, as positions."""

    @abstractmethod
    def score_pairs(self, pairs: Sequence[Pair]) -> tuple[list[Likelihoods], Work]:
        """Return likelihoods of the options of each pair, which the score is a share of, and their cost."""

    @abstractmethod
    def report(self) -> None:
        """Log what the scores leave out, if there is something."""


class PackingLM(LMTokenizer, Protocol):
    """What lays out the prompts of a language model."""

    fingerprint: str
    dtype: str

    def plan(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Return which prompts to score together, as positions."""


class FeedbackLM(PackingLM, Protocol):
    """A feedback language model, as the rest of udr uses it."""

    def score(self, prompts: Sequence[Prompt]) -> list[Likelihoods]:
        """Return the likelihoods of the options of prompts that are scored together."""


PackShard = Shard[tuple[Prompt, ...]]
"""A pack, as a worker gets it."""

ScoredPack = Done[tuple[Prompt, ...], list[Likelihoods]]


class ScatteredLM(PackingLM, ABC):
    """A feedback language model that workers hold; here are its tokenizer and its packs."""

    @property
    @abstractmethod
    def spent(self) -> str:
        """What its workers do, in words."""

    @abstractmethod
    def run(self, shards: Iterable[PackShard]) -> Iterator[ScoredPack]:
        """Yield packs as they are scored; leaves out those that no worker could score."""

    @abstractmethod
    def check(self) -> None:
        """Raise a ``PartialError`` if packs were left out since the last check."""
