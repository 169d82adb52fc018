"""The tree of the solutions of one question: a node is a step, a path from the root is a solution.

After FastMCTS (Li et al., 2025, arXiv 2502.11476): whole solutions are drawn from a chosen node on, and every step of
them stays in the tree, with the number of solutions through it and of right ones. This module is pure.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from udr.types import Json

ROOT = 0
"""The node of the question itself."""


@dataclass(slots=True)
class Node:
    """A step of solutions.

    Attributes:
        step: its text.
        parent: the step before; None for the question.
        end: whether the solution that ends here is right; None where none ends.
        paths: the solutions through it.
        right: the right ones.
        fresh: the solutions through it that were drawn from it or from a step before, so that they tell what comes
            after it by chance.
        fresh_right: the right ones of these.
        drawn: the solutions that were drawn from it.
        children: the steps after it, by their texts.
    """

    step: str
    parent: int | None = None
    end: bool | None = None
    paths: int = 0
    right: int = 0
    fresh: int = 0
    fresh_right: int = 0
    drawn: int = 0
    children: dict[str, int] = field(default_factory=dict)


class Tree:
    """The solutions of a question so far.

    Attributes:
        nodes: its steps; the first is the question, and each stands after its parent.
        solved: the last steps of the right solutions, each solution once, in the order found.
        tokens: generated for it.
    """

    def __init__(self) -> None:
        self.nodes = [Node("")]
        self.solved: list[int] = []
        self.tokens = 0

    @property
    def root(self) -> Node:
        """The question."""
        return self.nodes[ROOT]

    @property
    def difficulty(self) -> float:
        """The share of wrong solutions among those that were drawn from the question, 0 to 1."""
        return 1 - self.root.fresh_right / self.root.fresh

    def prefix(self, node: int) -> tuple[str, ...]:
        """Return the steps from the question to a node, this one included."""
        return tuple(self.nodes[number].step for number in self._upwards(node))[-2::-1]

    def best(self) -> tuple[str, ...]:
        """Return the right solution whose steps most right solutions share, on average; of equal ones the first."""

        def shared(end: int) -> float:
            counts = [self.nodes[number].right for number in self._upwards(end)][:-1]
            return sum(counts) / len(counts)

        return self.prefix(max(self.solved, key=shared))

    def add(self, start: int, steps: Sequence[str], *, right: bool, tokens: int) -> None:
        """Add a solution.

        Args:
            start: the node that it was drawn from.
            steps: those after it; at least one, and the last one ends no other way in another solution.
            right: whether its answer is.
            tokens: generated for it.
        """
        at = start
        for step in steps:
            children = self.nodes[at].children
            if step not in children:
                children[step] = len(self.nodes)
                self.nodes.append(Node(step, at))
            at = children[step]
        if right and self.nodes[at].end is None:
            self.solved.append(at)
        self.nodes[at].end = right
        self.nodes[start].drawn += 1
        self.tokens += tokens
        fresh = True
        for number in self._upwards(at):
            node = self.nodes[number]
            node.paths += 1
            node.right += right
            # A solution drawn further down says what follows that step, not what follows this one.
            node.fresh += fresh
            node.fresh_right += fresh and right
            fresh = fresh and number != start

    def select(self, exploration: float = 1.0) -> int:
        """Return the node to draw the next solutions from.

        From the question down, each node is a bandit with upper confidence bounds (UCT). Its arms are the steps after
        it, by their rates of right solutions, and to stay there and draw other steps, by the rate of the solutions that
        were drawn so. The weight of exploration is the node's own rate: what is easy is solved in new ways, what is
        hard along steps that have led to a right answer. Where none has, the node stays.
        """
        at = ROOT
        while True:
            node = self.nodes[at]
            steps = [number for number in node.children.values() if self.nodes[number].end is None]
            if not any(self.nodes[number].right for number in steps):
                return at
            # At least one solution is right, so there are paths.
            weight = exploration * node.right / node.paths * math.sqrt(math.log(node.paths))
            bounds = {number: _bound(self.nodes[number].right, self.nodes[number].paths, weight) for number in steps}
            best = max(bounds, key=bounds.__getitem__)
            if _bound(node.fresh_right, node.fresh, weight) >= bounds[best]:
                return at
            at = best

    def to_json(self) -> dict[str, Json]:
        """Return the tree: each node's step, parent, end and counts."""
        nodes: list[Json] = [
            {
                **({} if node.parent is None else {"step": node.step, "parent": node.parent}),
                **({} if node.end is None else {"end": node.end}),
                "paths": node.paths,
                "right": node.right,
                "drawn": node.drawn,
            }
            for node in self.nodes
        ]
        return {"tokens": self.tokens, "nodes": nodes}

    def _upwards(self, number: int) -> Iterator[int]:
        at: int | None = number
        while at is not None:
            yield at
            at = self.nodes[at].parent


def _bound(right: int, paths: int, weight: float) -> float:
    return right / paths + weight / math.sqrt(paths)
