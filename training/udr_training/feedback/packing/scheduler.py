"""Which prompts share a pack: full packs keep all cores busy, but attention grows with the square of a pack's size."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from udr_training.feedback.packing.pack import Prompt, Tokens


def plan(prompts: Sequence[Prompt], budget: int) -> list[list[int]]:
    """Return which prompts share a pack: positions in ``prompts``, pack by pack, fullest first.

    Prompts that share all parts but the last (a demonstration's queries) stay together; a group larger than the budget
    is split evenly, and repeats its shared parts. Smaller groups fill packs, longest first, each in the first pack with
    room (first-fit decreasing): first with groups that share the first part, then those packs together. A prompt larger
    than the budget gets its own pack.

    Args:
        prompts: the prompts.
        budget: tokens per pack.
    """
    groups: dict[tuple[Tokens, ...], list[int]] = {}
    for number, prompt in enumerate(prompts):
        groups.setdefault(prompt.parts[:-1], []).append(number)
    by_root: dict[Tokens, list[_Load]] = {}
    for shared, numbers in groups.items():
        root = shared[0] if shared else ()
        own = (_Load(load.size - len(root), load.numbers) for load in _split(prompts, shared, numbers, budget))
        by_root.setdefault(root, []).extend(own)
    loads = [
        _Load(load.size + len(root), load.numbers)
        for root, own in by_root.items()
        for load in _fill(own, budget - len(root))
    ]
    return [load.numbers for load in sorted(_fill(loads, budget), key=lambda load: -load.size)]


@dataclass(slots=True)
class _Load:
    """Prompts that stay together, and their number of tokens."""

    size: int
    numbers: list[int]


def _fill(loads: Sequence[_Load], room: int) -> list[_Load]:
    """Combine loads, first-fit decreasing."""
    smallest = min((load.size for load in loads), default=0)
    filled: list[_Load] = []
    # Loads with room for the smallest one, so that the search skips full ones.
    open_loads: list[_Load] = []
    for load in sorted(loads, key=lambda load: (-load.size, load.numbers)):
        home = next((home for home in open_loads if home.size + load.size <= room), None)
        if home is None:
            home = _Load(0, [])
            filled.append(home)
            open_loads.append(home)
        home.size += load.size
        home.numbers.extend(load.numbers)
        if home.size + smallest > room:
            open_loads.remove(home)
    return filled


def _split(prompts: Sequence[Prompt], shared: tuple[Tokens, ...], numbers: list[int], budget: int) -> Iterator[_Load]:
    """Split a group into the fewest loads, of similar sizes.

    Attention grows with the square of a pack's size, so two halves cost less than a full pack and a remainder.
    """
    root = sum(map(len, shared))
    own = {number: _own_tokens(prompts[number]) for number in numbers}
    longest_first = sorted(numbers, key=lambda number: (-own[number], number))
    fewest = min(len(numbers), max(1, -(-sum(own.values()) // max(1, budget - root))))
    for count in range(fewest, len(numbers) + 1):
        loads = [(root, index, list[int]()) for index in range(count)]
        for number in longest_first:
            size, index, held = heapq.heappop(loads)
            heapq.heappush(loads, (size + own[number], index, [*held, number]))
        if all(size <= budget or len(held) == 1 for size, _, held in loads):
            break
    yield from (_Load(size, held) for size, _, held in sorted(loads, key=lambda load: load[1]))


def _own_tokens(prompt: Prompt) -> int:
    """Return the tokens that only this prompt adds: its last part and its options' trie."""
    return len(prompt.parts[-1]) + len(_inner(prompt.options))


def _inner(options: Iterable[Tokens]) -> set[Tokens]:
    """Return the proper prefixes of options: each is one input token."""
    return {option[:end] for option in options for end in range(1, len(option))}
