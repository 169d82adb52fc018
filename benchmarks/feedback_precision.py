"""The speed of a language model in 32 and in 16 bits, on a processor that lacks instructions for 16.

    python benchmarks/feedback_precision.py [--dtype bfloat16] [--lm NAME]

Prints a JSON line for each side: float32, 16 bits, and 16 bits as torch multiplies them. They take turns; medians of
three. ``score_s`` are the seconds to score 4 prompts of 230 tokens with 5 options each, ``generate_s`` to generate
16 tokens after 4 prompts of 200, and ``off`` is the largest difference of a log-likelihood from float32.
"""

import json
from functools import partial
from unittest.mock import patch

import numpy as np
from measuring import in_turn, median, parser

from udr.models import DEFAULT_LM, cpu_multiplies
from udr_training.feedback.local import CausalLM
from udr_training.feedback.packing import Prompt, Tokens

ROUNDS, PROMPTS = 3, 4


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--dtype", choices=("bfloat16", "float16"), default="bfloat16")
    options.add_argument("--lm", default=DEFAULT_LM)
    arguments = options.parse_args()
    if cpu_multiplies(arguments.dtype):
        raise SystemExit(f"this processor has instructions for {arguments.dtype}, so there is nothing to compare")
    lms = {"float32": CausalLM.load(arguments.lm), "16 bits": CausalLM.load(arguments.lm, dtype=arguments.dtype)}
    with patch("udr_training.feedback.local.causal_lm.cpu_multiplies", lambda _: True):
        lms["16 bits, torch's"] = CausalLM.load(arguments.lm, dtype=arguments.dtype)
    scored, continued = prompts()
    sums = {name: np.concatenate([each.sums for each in lm.likelihoods(scored)]) for name, lm in lms.items()}
    scoring = in_turn({name: partial(lm.likelihoods, scored) for name, lm in lms.items()}, ROUNDS)
    generating = in_turn({name: partial(lm.generate, continued, (), 16) for name, lm in lms.items()}, ROUNDS)
    for name in lms:
        off = round(float(np.abs(sums[name] - sums["float32"]).max()), 3)
        line = {
            "side": name,
            "score_s": median(scoring[name], 2),
            "generate_s": median(generating[name], 2),
            "off": off,
        }
        print(json.dumps(line), flush=True)


def prompts() -> tuple[list[Prompt], list[Tokens]]:
    """Return prompts to score, and others to generate after, of random tokens."""
    draw = np.random.default_rng(0)

    def tokens(count: int) -> Tokens:
        return tuple(map(int, draw.integers(100, 10_000, count)))

    scored = [Prompt((tokens(200), tokens(30)), tuple(tokens(2) for _ in range(5))) for _ in range(PROMPTS)]
    return scored, [tokens(200) for _ in range(PROMPTS)]


if __name__ == "__main__":
    main()
