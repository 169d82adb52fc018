"""The command ``udr`` with an encoder that reads no instruction: the ablation of ``quality.py``.

    python benchmarks/without_instruction.py train ...

Its runs, indexes and answers have their own wording, so that no other ``udr`` opens them by mistake.
"""

import sys

import udr.data
from udr.cli import main
from udr.data import Task, formatting
from udr.models import record
from udr.types import Row


def query(_instruction: str, worded: str) -> str:
    return worded


def demonstration(task: Task, row: Row) -> str:
    return formatting.demonstration_text(task, row)


if __name__ == "__main__":
    formatting.encoder_query, formatting.encoder_demonstration = query, demonstration
    udr.data.ENCODER_WORDING = formatting.ENCODER_WORDING = record.ENCODER_WORDING = "no-instruction"
    sys.exit(main())
