"""How a partition is searched: from a short name and its size to a faiss factory string, and how to begin with it."""

import math
import re

from udr.store import FLAT, SearchSettings

AUTO = "auto"
GRAPH = "cagra"
"""The kind of a graph that is built on a GPU; a CPU searches it as it does HNSW."""

FLAT_BELOW = 100_000
"""Demonstrations from which on comparing with every vector takes longer than encoding a query, on a CPU."""

# What faiss divides vectors into on a GPU as well as on a CPU. The table of 48 parts, 256 float32 each, is all that the
# 48 KiB of shared memory hold that a GPU has for a query; 56 and more parts need tables of float16 or cuVS.
_PARTS = (48, 40, 32, 28, 24, 20, 16, 12, 8, 4, 3, 2, 1)
_WIDTH = 8
_ROWS_A_LIST = 39
"""Vectors a list that faiss wants at least to train on."""


def resolve(kind: str, count: int, dimension: int, flat_below: int | None = None) -> str:
    """Return ``flat``, ``cagra``, or the factory string that ``kind`` stands for.

    Args:
        kind: ``auto`` (flat, or ivf from a size on), ``flat``, ``hnsw``, ``ivf``, ``ivfpq``, ``cagra``, or a factory
            string of faiss.
        count: demonstrations of the partition.
        dimension: of their vectors.
        flat_below: partitions of fewer demonstrations are flat; None is 100,000 for ``auto``, and 0 for other kinds.
    """
    if flat_below is None:
        flat_below = FLAT_BELOW if kind == AUTO else 0
    if kind == FLAT or count < flat_below:
        return FLAT
    if kind == "hnsw":
        return "HNSW32_SQ8"
    if kind in (AUTO, "ivf"):
        return f"IVF{_lists(count)},SQ8"
    if kind == "ivfpq":
        fits = [parts for parts in _PARTS if dimension % parts == 0 and dimension >= min(_WIDTH, dimension) * parts]
        return f"IVF{_lists(count)},PQ{fits[0]}x8"
    return kind


def _lists(count: int) -> int:
    """Return how many lists faiss cuts so many vectors into: about four times the root, a power of two."""
    wanted: int = 2 ** round(math.log2(4 * math.sqrt(count)))
    return max(1, min(wanted, count // _ROWS_A_LIST))


def lists_of(kind: str) -> int | None:
    """Return how many lists a factory string asks for, None where it asks for none."""
    found = re.search(r"IVF(\d+)", kind)
    return int(found[1]) if found else None


def rows_to_train(kind: str) -> int:
    """Return how many vectors faiss needs at least to train a kind: one a list, and one a code of its parts."""
    codes = [1 << int(bits or 8) for bits in re.findall(r"PQ\d+(?:x(\d+))?", kind)]
    return max(lists_of(kind) or 1, *codes, 1)


def sample_size(kind: str) -> int:
    """Return the most vectors that a kind is trained on."""
    return max(65_536, 64 * (lists_of(kind) or 1))


def first_settings(kind: str) -> SearchSettings:
    """Return how a partition is searched until ``udr index bench`` has measured how it should be."""
    oversample = 16 if "PQ" in kind else 4
    lists = lists_of(kind)
    if lists is not None:
        return SearchSettings(parameters=f"nprobe={max(1, lists // 32)}", oversample=oversample)
    if "HNSW" in kind or kind == GRAPH:
        return SearchSettings(parameters="efSearch=64", oversample=oversample)
    return SearchSettings(oversample=oversample)
