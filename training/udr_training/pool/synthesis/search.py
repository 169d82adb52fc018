"""Growing the trees of many questions together, in rounds of batches. This module is pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from udr.errors import ConfigError
from udr_training.pool.synthesis.tree import ROOT, Tree

# A hard question may take this many times the solutions of an average one.
_HARD = 4


@dataclass(frozen=True, slots=True)
class Draw:
    """A solution to draw: the question's position, the steps to go on from, and its number among those drawn there."""

    question: int
    prefix: tuple[str, ...]
    sample: int


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was drawn: the steps after the prefix, the answer's among them, whether it is right, and the tokens."""

    steps: tuple[str, ...]
    right: bool
    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How long questions are searched.

    Attributes:
        enough: right solutions after which a question is done.
        tries: solutions drawn for a question, on average: what easy questions leave goes to hard ones, each of which
            takes at most four times as many.
        batch: solutions drawn from a node at once.

    Raises:
        ConfigError: a number is out of range.
    """

    enough: int = 4
    tries: int = 16
    batch: int = 4

    def __post_init__(self) -> None:
        for name, value in (("paths", self.enough), ("batch", self.batch)):
            if value < 1:
                raise ConfigError(f"--{name} must be at least 1, found {value}")
        if self.tries < self.batch:
            raise ConfigError(f"--tries must be at least --batch, {self.batch}; found {self.tries}")


METHODS: Mapping[str, Callable[[Tree], int]] = {"tree": Tree.select, "rejection": lambda tree: ROOT}
"""How the node is chosen that solutions are drawn from; rejection sampling draws all from the question."""


def grow(
    trees: Sequence[Tree],
    draw: Callable[[Sequence[Draw]], Sequence[Drawn]],
    limits: Limits,
    select: Callable[[Tree], int] = Tree.select,
) -> None:
    """Add solutions to the trees of questions until the limits are reached.

    A round draws a batch for every question that is not done. If what is left of all tries is too little for a round,
    the questions with the fewest right solutions go first. Equal draws give equal trees, so a search can be repeated
    from kept answers.

    Args:
        trees: one for each question.
        draw: returns what is drawn, in order; called once a round.
        limits: how long.
        select: chooses the node of a tree that solutions are drawn from.
    """
    while chosen := _next(trees, limits):
        starts = [(number, select(trees[number])) for number in chosen]
        asked = [
            (start, Draw(number, trees[number].prefix(start), trees[number].nodes[start].drawn + sample))
            for number, start in starts
            for sample in range(limits.batch)
        ]
        found = draw([item for _, item in asked])
        for (start, item), one in zip(asked, found, strict=True):
            trees[item.question].add(start, one.steps, right=one.right, tokens=one.tokens)


def _next(trees: Sequence[Tree], limits: Limits) -> list[int]:
    """Return the questions of the next round."""
    left = limits.tries * len(trees) - sum(tree.root.paths for tree in trees)
    waiting = [
        number
        for number, tree in enumerate(trees)
        if len(tree.solved) < limits.enough and tree.root.paths + limits.batch <= _HARD * limits.tries
    ]
    waiting.sort(key=lambda number: (len(trees[number].solved), trees[number].root.paths))
    return waiting[: left // limits.batch]
