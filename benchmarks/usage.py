"""What it costs a request that its demonstrations are counted.

    python benchmarks/usage.py

Counts retrievals and prompts of 8 of 100,000 demonstrations as a service does, 1,000 a round, and flushes after each
round, as the thread of the counts does once a second. Prints a JSON line: microseconds of processor time that a call
takes its request, and that its share of the flush takes the thread; medians of rounds.
"""

import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from measuring import median, parser, seconds

from udr.store.usage import Usage, UsageLevel

_ROWS, _SHOWN, _CALLS, _ROUNDS = 100_000, 8, 1_000, 25
_INPUT = {"text": "wake me at six " * 8}


def main() -> None:
    parser(__doc__).parse_args()
    draw = random.Random(0)
    asked = [[str(draw.randrange(_ROWS)) for _ in range(_SHOWN)] for _ in range(_CALLS)]
    results: dict[str, float] = {}
    for level in (UsageLevel.COUNTS, UsageLevel.INPUTS):
        with tempfile.TemporaryDirectory() as folder:
            usage = Usage(Path(folder), level)
            for name, work in _works(usage).items():
                calls, flushes = zip(*(_round(usage, asked, work) for _ in range(_ROUNDS)), strict=True)
                results[f"{name}_{level}_us"] = median(calls, 1)
                results[f"{name}_{level}_in_the_thread_us"] = median(flushes, 1)
            usage.close()
    print(json.dumps(results))


def _works(usage: Usage) -> dict[str, Callable[[Sequence[str]], object]]:
    return {
        "retrieval": lambda ids: usage.retrieved([("task", id) for id in ids]),
        "prompt": lambda ids: usage.prompt("task", ids, _INPUT),
    }


def _round(usage: Usage, asked: list[list[str]], work: Callable[[Sequence[str]], object]) -> tuple[float, float]:
    """Return the microseconds that a call takes, and those of its share of the flush."""

    def call() -> None:
        for ids in asked:
            work(ids)

    return tuple(1e6 * seconds(part, time.thread_time) / len(asked) for part in (call, usage.flush))


if __name__ == "__main__":
    main()
