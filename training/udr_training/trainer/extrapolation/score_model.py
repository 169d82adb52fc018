"""A task's scores as a function of rows, whatever it is learned from."""

from collections.abc import Callable
from dataclasses import dataclass

from udr_training.candidates import Agreement, Candidates, RankedExample


@dataclass(frozen=True, slots=True)
class ScoreModel:
    """A model of a task's scores, learned from training queries and judged by those for validation.

    Attributes:
        source: what the scores follow from, as a message names it.
        agreement: with the order of held-out scores; None if too few tell it.
        least: the least share at which the model is used.
        scored: returns queries that were never scored, their candidates in the order of their expected scores; leaves
            out queries without a candidate that is known to be right.
    """

    source: str
    agreement: Agreement | None
    least: float
    scored: Callable[[Candidates], tuple[RankedExample, ...]]

    @property
    def holds(self) -> bool:
        """Whether the model is used."""
        return self.agreement is not None and self.agreement.share >= self.least
