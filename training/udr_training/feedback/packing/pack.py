"""Tree packing: many prompts with common prefixes as one sequence that holds each shared part once.

A score is the log-likelihood of an option after a prompt. Prompts share prefixes: a task's prompts share the
instruction, a demonstration's prompts the demonstration, a query's options everything before them. ``pack`` lays this
forest out as one sequence of tokens in which

- a token's position is its depth in its own prompt,
- a token sees its ancestors and itself, and nothing else,
- options form a trie under the query, without the last token of each: a token's probability is read one position
  earlier, so the last token is never an input.

Up to rounding, a model then computes the same as on each prompt alone. This module is pure: tokens in, arrays out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt with its options, as tokens.

    Attributes:
        parts: the prompt, split where other prompts can branch: instruction, demonstration, query. Not all empty.
        options: the continuations; none is empty.
        lost: tokens truncated from demonstrations to fit the model's window.
    """

    parts: tuple[Tokens, ...]
    options: tuple[Tokens, ...]
    lost: int = 0

    @property
    def length(self) -> int:
        """The length of the longest input sequence; an option's last token is not an input."""
        return sum(map(len, self.parts)) + max(map(len, self.options)) - 1

    @property
    def context(self) -> Tokens:
        """The tokens before the option."""
        return sum(self.parts, ())

    @property
    def num_tokens(self) -> int:
        """The number of tokens of the prompt and all its options."""
        return sum(map(len, self.parts)) + sum(map(len, self.options))


@dataclass(frozen=True, slots=True)
class Likelihoods:
    """The likelihoods of a prompt's options.

    Attributes:
        sums: [num_options], each option's log-likelihood, summed over its tokens.
        num_tokens: [num_options], each option's number of tokens.
    """

    sums: NDArray[np.floating]
    num_tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pack:
    """A packed sequence, and where to read the options' log-likelihoods.

    Attributes:
        tokens: int64 [length].
        positions: int64 [length], each token's depth in its own prompt.
        enter: int64 [length], preorder number of each token in the forest.
        leave: int64 [length], one past the last preorder number below it: i sees j if enter[j] <= enter[i] < leave[j].
        sources: int64 [num_edges], the position whose prediction is read.
        targets: int64 [num_edges], the predicted token.
        paths: for each option of each packed prompt, the edges whose log-probabilities sum to its log-likelihood.
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
        """Return the options' log-likelihoods, one array [num_options] per prompt, in the order packed.

        Args:
            log_probabilities: [num_edges], log-probabilities of ``targets`` at ``sources``.
        """
        wide = log_probabilities.astype(np.float64)
        return [np.array([wide[list(edges)].sum() for edges in options]) for options in self.paths]


@dataclass(slots=True)
class _Layout:
    """A packed sequence under construction; a node is an index into it."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    edges: dict[tuple[int, int], int] = field(default_factory=dict)
    parts: dict[tuple[int, Tokens], int] = field(default_factory=dict)

    def follow(self, node: int, part: Tokens) -> int:
        """Return the last node of ``part`` under ``node``; a new part is appended."""
        if not part:
            return node
        if (node, part) not in self.parts:
            last = node
            for token in part:
                last = self._append(last, token)
            self.parts[node, part] = last
        return self.parts[node, part]

    def option(self, node: int, tokens: Tokens) -> tuple[int, ...]:
        """Return the edges of an option under ``node``; shared prefixes are appended once."""
        path = []
        for number, token in enumerate(tokens):
            path.append(self.edges.setdefault((node, token), len(self.edges)))
            if number + 1 < len(tokens):
                node = self.follow(node, (token,))
        return tuple(path)

    def _append(self, parent: int, token: int) -> int:
        self.tokens.append(token)
        self.parents.append(parent)
        self.depths.append(self.depths[parent] + 1 if parent >= 0 else 0)
        return len(self.tokens) - 1

    def walk(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return ``Pack.enter`` and ``Pack.leave``."""
        sizes = np.ones(len(self.tokens), dtype=np.int64)
        # Children come after their parents, so backwards each size is complete before it is added.
        for node in reversed(range(len(self.tokens))):
            if self.parents[node] >= 0:
                sizes[self.parents[node]] += sizes[node]
        enter = np.zeros_like(sizes)
        # The number of each node's next child; the last element counts roots.
        following = np.zeros(len(self.tokens) + 1, dtype=np.int64)
        for node, parent in enumerate(self.parents):
            enter[node] = following[parent]
            following[parent] += sizes[node]
            following[node] = enter[node] + 1
        return enter, enter + sizes


def pack(prompts: Sequence[Prompt]) -> Pack:
    """Pack prompts into one sequence; equal leading parts are stored once.

    Raises:
        ValueError: a prompt or an option has no tokens.
    """
    layout = _Layout()
    paths = []
    for prompt in prompts:
        node = -1
        for part in prompt.parts:
            node = layout.follow(node, part)
        if node < 0 or not all(prompt.options) or not prompt.options:
            raise ValueError("a prompt needs at least one token and one option, and an option at least one token")
        paths.append(tuple(layout.option(node, option) for option in prompt.options))
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
