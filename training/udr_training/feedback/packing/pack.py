"""Tree packing: many prompts that begin alike, as one sequence that holds each shared part once.

A score asks for the log-likelihood of an option after a prompt. Prompts share their beginnings: all of a task
the instruction, all of a demonstration the demonstration, all options of a query everything before them. A
forest says so, and ``pack`` lays it out as one sequence of tokens in which

- every token's position is its depth in its own prompt,
- a token sees its ancestors and itself, and nothing else,
- an option's tokens form a trie under the query, without the last token of each: a token's probability is
  read from the place before it, so the last one is never an input.

What a model computes on the sequence is then, up to rounding, what it would compute on each prompt alone.
This module is pure: tokens in, arrays out; it knows no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt with its options, as tokens.

    Attributes:
        parts: the prompt, cut where others may go another way: instruction, demonstration, query. Not all empty.
        options: the continuations; none of them empty.
        lost: tokens that were cut from demonstrations because the model takes no longer prompt.
    """

    parts: tuple[Tokens, ...]
    options: tuple[Tokens, ...]
    lost: int = 0

    @property
    def length(self) -> int:
        """The tokens of the longest sequence that the model must see; its last token is no input."""
        return sum(map(len, self.parts)) + max(map(len, self.options)) - 1

    @property
    def context(self) -> Tokens:
        """What stands before the option."""
        return sum(self.parts, ())

    @property
    def num_tokens(self) -> int:
        """The tokens of the prompt and of all its options."""
        return sum(map(len, self.parts)) + sum(map(len, self.options))


@dataclass(frozen=True, slots=True)
class Likelihoods:
    """What a language model says of a prompt's options.

    Attributes:
        sums: [num_options], each option's log-likelihood, the sum over its tokens.
        num_tokens: [num_options], how many those are.
    """

    sums: NDArray[np.floating]
    num_tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pack:
    """One sequence for the model, and where to read the options' log-likelihoods.

    Attributes:
        tokens: int64 [length].
        positions: int64 [length], each token's depth in its own prompt.
        enter: int64 [length], when a walk through the tree, parents first, comes to each token.
        leave: int64 [length], when it has been to all below the token: i sees j where enter[j] <= enter[i] < leave[j].
        sources: int64 [num_edges], where the prediction of an option's token is read.
        targets: int64 [num_edges], the token predicted there.
        paths: for each option of each prompt, in the order packed, the edges whose log-probabilities sum to its
            log-likelihood.
    """

    tokens: NDArray[np.int64]
    positions: NDArray[np.int64]
    enter: NDArray[np.int64]
    leave: NDArray[np.int64]
    sources: NDArray[np.int64]
    targets: NDArray[np.int64]
    paths: tuple[tuple[tuple[int, ...], ...], ...]

    def __len__(self) -> int:
        return len(self.tokens)

    def log_likelihoods(self, log_probabilities: NDArray[np.float32]) -> list[NDArray[np.float64]]:
        """Return the options' log-likelihoods, one array [num_options] a prompt, in the order packed.

        Args:
            log_probabilities: [num_edges], of ``targets`` at ``sources``.
        """
        wide = log_probabilities.astype(np.float64)
        return [np.array([wide[list(edges)].sum() for edges in options]) for options in self.paths]


@dataclass(slots=True)
class _Layout:
    """Grows one packed sequence; a place is an index into it."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    edges: dict[tuple[int, int], int] = field(default_factory=dict)
    parts: dict[tuple[int, Tokens], int] = field(default_factory=dict)

    def follow(self, place: int, part: Tokens) -> int:
        """Return the place of the last token of ``part`` under ``place``, laying it out if it is new."""
        if not part:
            return place
        if (place, part) not in self.parts:
            last = place
            for token in part:
                last = self._append(last, token)
            self.parts[place, part] = last
        return self.parts[place, part]

    def option(self, place: int, tokens: Tokens) -> tuple[int, ...]:
        """Return the edges of one option under ``place``; shared beginnings are laid out once."""
        path = []
        for number, token in enumerate(tokens):
            path.append(self.edges.setdefault((place, token), len(self.edges)))
            if number + 1 < len(tokens):
                place = self.follow(place, (token,))
        return tuple(path)

    def _append(self, parent: int, token: int) -> int:
        self.tokens.append(token)
        self.parents.append(parent)
        self.depths.append(self.depths[parent] + 1 if parent >= 0 else 0)
        return len(self.tokens) - 1

    def walk(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return when a walk through the tree, parents first, comes to each place, and when it leaves it."""
        sizes = np.ones(len(self.tokens), dtype=np.int64)
        # A place stands behind its parent: backwards, its size is whole when it is added to its parent's.
        for place in reversed(range(len(self.tokens))):
            if self.parents[place] >= 0:
                sizes[self.parents[place]] += sizes[place]
        enter = np.zeros_like(sizes)
        # When the next child of each place is come to; the last element is that of the trees' roots.
        following = np.zeros(len(self.tokens) + 1, dtype=np.int64)
        for place, parent in enumerate(self.parents):
            enter[place] = following[parent]
            following[parent] += sizes[place]
            following[place] = enter[place] + 1
        return enter, enter + sizes


def pack(prompts: Sequence[Prompt]) -> Pack:
    """Lay prompts out as one sequence; equal beginnings, part by part, are laid out once.

    Raises:
        ValueError: a prompt has no token, or an option has none.
    """
    layout = _Layout()
    paths = []
    for prompt in prompts:
        place = -1
        for part in prompt.parts:
            place = layout.follow(place, part)
        if place < 0 or not all(prompt.options) or not prompt.options:
            raise ValueError("a prompt needs at least one token and one option, and an option at least one token")
        paths.append(tuple(layout.option(place, option) for option in prompt.options))
    edges = np.array(list(layout.edges), dtype=np.int64).reshape(-1, 2)
    enter, leave = layout.walk()
    return Pack(
        tokens=np.array(layout.tokens, dtype=np.int64),
        positions=np.array(layout.depths, dtype=np.int64),
        enter=enter,
        leave=leave,
        sources=edges[:, 0],
        targets=edges[:, 1],
        paths=tuple(paths),
    )
