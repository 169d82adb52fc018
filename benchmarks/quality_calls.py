"""What all comparisons of quality share: their sizes, and the commands of ``udr`` that they run."""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from udr.cli import main as udr
from udr_training.evaluation import ORACLE

TASKS = "sst5,cr,subj,trec,cola,snli,comv,commongen,e2e_nlg,mtop"
ABLATED = "sst5,trec,snli,comv,commongen"
"""The ten tasks, which were chosen before any measurement, and the five of them for what needs less."""

QUERIES, CANDIDATES = 150, 12
"""Of each task in a training."""

ROWS, SHOTS = 300, 4
"""Test rows of each task, and the demonstrations that a prompt shows."""

POOL, SEED = 800, 0
"""The pools of all evaluations: rows of each, and the seed of their sample."""


_BARE = [sys.executable, str(Path(__file__).with_name("without_instruction.py"))]


def call(*arguments: object, bare: bool = False) -> None:
    """Run a command of ``udr``, or of one whose encoder reads no instruction; exit if it fails."""
    given = list(map(str, arguments))
    if status := subprocess.run([*_BARE, *given]).returncode if bare else udr(given):
        raise SystemExit(status)


def answer(
    arguments: argparse.Namespace,
    retrievers: Sequence[str],
    tasks: Sequence[str],
    output: Path,
    *,
    rows: int,
    lm: str,
    bare: bool = False,
) -> None:
    """Have a language model answer test rows of tasks with each retriever; ``udr evaluate`` keeps what is there."""
    call(
        *("evaluate", arguments.tasks, "--tasks", ",".join(tasks), "--retrievers", ",".join(retrievers)),
        *("--pool", POOL, "--seed", SEED, "--limit", rows, "--shots", SHOTS),
        *("--output", output, "--lm", lm, "--dtype", arguments.dtype),
        # As in training.
        *(("--oracle-context", 1) if ORACLE in retrievers else ()),
        bare=bare,
    )
