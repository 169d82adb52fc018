"""The pairs that ``feedback.py`` scores, and the language model that scores them."""

import argparse
from collections.abc import Iterator

from udr.data import Pool, open_collection, sample
from udr_training.feedback import Pair
from udr_training.feedback.local import CausalLM

QUERIES = 16
ROUNDS = 5


def load(arguments: argparse.Namespace, pack_tokens: int | None = None) -> CausalLM:
    return CausalLM.load(arguments.lm, arguments.device, arguments.dtype, pack_tokens)


def pool_of(arguments: argparse.Namespace, task: str) -> Pool:
    return open_collection(arguments.tasks, [task]).tasks[task].pool()


def groups(pool: Pool, task: str, count: int = ROUNDS) -> Iterator[list[Pair]]:
    """Yield demonstrations with 16 queries each; for generation, queries with targets of about 30 tokens."""
    rows = sample(pool.rows, None, 0)
    if task == "commongen":
        rows = sorted(rows, key=lambda row: abs(len(row.target.split()) - 26))[: count * (QUERIES + 1)]
    for number in range(count):
        demonstration, *queries = rows[number * (QUERIES + 1) : (number + 1) * (QUERIES + 1)]
        yield [Pair(pool.task, query, demonstration) for query in queries]
