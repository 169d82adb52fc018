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

import heapq
from collections.abc import Iterator, Sequence
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
        lost: the number of tokens truncated from demonstrations.
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

    @property
    def num_unshared_tokens(self) -> int:
        """The number of tokens that only this prompt adds to a pack: its last part and the trie of its options."""
        return len(self.parts[-1]) + len({option[:end] for option in self.options for end in range(1, len(option))})


@dataclass(frozen=True, slots=True)
class Likelihoods:
    """The log-likelihoods of a prompt's options, summed over their tokens, and their numbers of tokens."""

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
        """Return each prompt's options' log-likelihoods, [num_options], from the edges' log-probabilities."""
        wide = log_probabilities.astype(np.float64)
        return [np.array([wide[list(edges)].sum() for edges in options]) for options in self.paths]


@dataclass(slots=True)
class _Layout:
    """A packed sequence under construction; a node is a position in it."""

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
                self.depths.append(self.depths[last] + 1 if last >= 0 else 0)
                self.tokens.append(token)
                self.parents.append(last)
                last = len(self.tokens) - 1
            self.parts[node, part] = last
        return self.parts[node, part]

    def option(self, node: int, tokens: Tokens) -> tuple[int, ...]:
        """Return the edges of an option under ``node``; shared prefixes are appended once."""
        path = []
        for position, token in enumerate(tokens, start=1):
            path.append(self.edges.setdefault((node, token), len(self.edges)))
            if position < len(tokens):
                node = self.follow(node, (token,))
        return tuple(path)

    def walk(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return ``Pack.enter`` and ``Pack.leave``."""
        sizes = np.ones(len(self.tokens), dtype=np.int64)
        # Children come after their parents, so backwards each size is complete before it is added.
        for node in reversed(range(len(self.tokens))):
            if self.parents[node] >= 0:
                sizes[self.parents[node]] += sizes[node]
        enter = np.zeros_like(sizes)
        # The number of each node's next child; the last element is that of the next root.
        next_child = np.zeros(len(self.tokens) + 1, dtype=np.int64)
        for node, parent in enumerate(self.parents):
            enter[node] = next_child[parent]
            next_child[parent] += sizes[node]
            next_child[node] = enter[node] + 1
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


def plan(prompts: Sequence[Prompt], budget: int) -> list[list[int]]:
    """Return which prompts share a pack: positions in ``prompts``, pack by pack, fullest first.

    Full packs keep all cores busy, but attention grows with the square of a pack's size. Prompts that share all parts
    but the last (a demonstration's queries) stay together; a group larger than the budget is split evenly, and repeats
    its shared parts. Smaller groups fill packs, longest first, each in the first pack with room (first-fit decreasing):
    first with groups that share the first part, then those packs together. A prompt larger than the budget (tokens per
    pack) gets its own pack.
    """
    groups: dict[tuple[Tokens, ...], list[int]] = {}
    for number, prompt in enumerate(prompts):
        groups.setdefault(prompt.parts[:-1], []).append(number)
    by_root: dict[Tokens, list[_Load]] = {}
    for shared, numbers in groups.items():
        root = shared[0] if shared else ()
        for load in _split(prompts, shared, numbers, budget):
            by_root.setdefault(root, []).append(_Load(load.size - len(root), load.numbers))
    filled = [
        _Load(load.size + len(root), load.numbers)
        for root, loads in by_root.items()
        for load in _fill(loads, budget - len(root))
    ]
    return [load.numbers for load in sorted(_fill(filled, budget), key=lambda load: -load.size)]


@dataclass(slots=True)
class _Load:
    """Prompts that stay together, and their number of tokens."""

    size: int
    numbers: list[int]


def _fill(loads: Sequence[_Load], room: int) -> list[_Load]:
    smallest = min((load.size for load in loads), default=0)
    filled: list[_Load] = []
    # Loads with room for the smallest one, so that the search skips full ones.
    open_loads: list[_Load] = []
    for load in sorted(loads, key=lambda load: (-load.size, load.numbers)):
        target = next((target for target in open_loads if target.size + load.size <= room), None)
        if target is None:
            target = _Load(0, [])
            filled.append(target)
            open_loads.append(target)
        target.size += load.size
        target.numbers.extend(load.numbers)
        if target.size + smallest > room:
            open_loads.remove(target)
    return filled


def _split(prompts: Sequence[Prompt], shared: tuple[Tokens, ...], numbers: list[int], budget: int) -> Iterator[_Load]:
    """Split a group into the fewest loads, of similar size: two halves cost less than a full pack and a remainder."""
    num_shared = sum(map(len, shared))
    sizes = {number: prompts[number].num_unshared_tokens for number in numbers}
    longest_first = sorted(numbers, key=lambda number: (-sizes[number], number))
    fewest = min(len(numbers), max(1, -(-sum(sizes.values()) // max(1, budget - num_shared))))
    for count in range(fewest, len(numbers) + 1):
        loads = [(num_shared, index, list[int]()) for index in range(count)]
        for number in longest_first:
            size, index, members = heapq.heappop(loads)
            heapq.heappush(loads, (size + sizes[number], index, [*members, number]))
        if all(size <= budget or len(members) == 1 for size, _, members in loads):
            break
    yield from (_Load(size, members) for size, _, members in sorted(loads, key=lambda load: load[1]))
