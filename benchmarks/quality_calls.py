"""The commands of ``udr`` that several benchmarks run, in this process."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from quality import SHOTS

from udr.cli import main as udr

POOL, SEED = 800, 0
"""The pools of all evaluations: rows of each, and the seed of their sample."""


def call(*arguments: object) -> None:
    """Run a command of ``udr``; exit if it fails."""
    if status := udr(list(map(str, arguments))):
        raise SystemExit(status)


def answer(
    arguments: argparse.Namespace, retrievers: Sequence[str], tasks: Sequence[str], output: Path, *, rows: int, lm: str
) -> None:
    """Have a language model answer test rows of tasks with each retriever; ``udr evaluate`` keeps what is there."""
    call(
        *("evaluate", arguments.tasks, "--tasks", ",".join(tasks), "--retrievers", ",".join(retrievers)),
        *("--pool", POOL, "--seed", SEED, "--limit", rows, "--shots", SHOTS),
        *("--output", output, "--lm", lm, "--dtype", arguments.dtype),
    )
