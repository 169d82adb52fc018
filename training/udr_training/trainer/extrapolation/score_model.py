"""What a model of scores offers, whatever it learns them from."""

from typing import Protocol

from udr_training.candidates import Candidates, RankedExample


class ScoreModel(Protocol):
    """A task's scores as a function of rows, learned from training queries and judged by those for validation."""

    @property
    def source(self) -> str:
        """What the scores follow from, as a message names it."""

    @property
    def agreement(self) -> float:
        """The share of the order of held-out scores that the model gets right, 0 to 1."""

    @property
    def least(self) -> float:
        """The least share at which the model is used."""

    def scored(self, candidates: Candidates) -> tuple[RankedExample, ...]:
        """Return queries that were never scored, their candidates in the order of their expected scores.

        Queries are left out if none of their candidates is known to be right.
        """
