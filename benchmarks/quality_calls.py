"""What all comparisons of quality share: their sizes, and the commands of ``udr``, which run in this process."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from udr.cli import main as udr

TASKS = "sst5,cr,subj,trec,cola,snli,comv,commongen,e2e_nlg,mtop"
ABLATED = "sst5,trec,snli,comv,commongen"
"""The ten tasks, which were chosen before any measurement, and the five of them for what needs less."""

QUERIES, CANDIDATES = 150, 12
"""Of each task in a training."""

ROWS, SHOTS = 300, 4
"""Test rows of each task, and the demonstrations that a prompt shows."""

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
