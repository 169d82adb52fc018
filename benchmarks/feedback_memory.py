"""What it saves to keep freed memory while a language model computes on the CPU.

    python benchmarks/feedback_memory.py [--dtype bfloat16] [--lm NAME]

Prints a JSON line for each side: one that keeps what it frees, as ``CausalLM`` does, and one that does not. Each round
runs in a process of its own, and they take turns; medians of three. ``score_s`` are the seconds to score 4 prompts of
230 tokens with 5 options each, ``generate_s`` to generate 16 tokens after 4 prompts of 200; ``system`` is the system's
share of the processor time, ``faults`` are page faults in thousands, and ``peak_gib`` is the largest memory.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from unittest.mock import patch

import numpy as np
from feedback_precision import prompts
from measuring import median, parser, seconds

from udr.models import DEFAULT_LM
from udr_training.feedback.local import CausalLM

ROUNDS, REPEATS = 3, 5
SIDES = ("kept", "returned")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--dtype", default="bfloat16")
    options.add_argument("--lm", default=DEFAULT_LM)
    options.add_argument("--side", choices=SIDES, help="measure one side here, once")
    arguments = options.parse_args()
    if arguments.side:
        print(json.dumps(measured(arguments.lm, arguments.dtype, kept=arguments.side == "kept")))
        return
    rounds: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for _ in range(ROUNDS):
        for side in SIDES:
            command = (sys.executable, __file__, "--lm", arguments.lm, "--dtype", arguments.dtype, "--side", side)
            rounds[side].append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    for side, own in rounds.items():
        medians = {name: median([each[name] for each in own], 2) for name in own[0]}
        print(json.dumps({"side": side, "dtype": arguments.dtype, **medians}))


def measured(lm_name: str, dtype: str, *, kept: bool) -> dict[str, float]:
    """Return the figures of one side, measured in this process."""
    if kept:
        lm = CausalLM.load(lm_name, dtype=dtype)
    else:
        with patch("udr_training.feedback.local.causal_lm.keep_freed_memory"):
            lm = CausalLM.load(lm_name, dtype=dtype)
    scored, continued = prompts()
    work: dict[str, Callable[[], object]] = {
        "score_s": partial(lm.likelihoods, scored),
        "generate_s": partial(lm.generate, continued, (), 16),
    }
    for run in work.values():
        run()
    before = resource.getrusage(resource.RUSAGE_SELF)
    figures = {name: float(np.median([seconds(run) for _ in range(REPEATS)])) for name, run in work.items()}
    after = resource.getrusage(resource.RUSAGE_SELF)
    system, user = after.ru_stime - before.ru_stime, after.ru_utime - before.ru_utime
    figures |= {"system": system / (system + user), "faults": (after.ru_minflt - before.ru_minflt) / 1e3}
    return figures | {"peak_gib": after.ru_maxrss / 2**20}


if __name__ == "__main__":
    main()
