"""Feedback on the card: FlexAttention and masks, beside padded batches and beside the card's matrix rate.

    python benchmarks/gpu/card_feedback.py --out FOLDER

SmolLM2-135M in bfloat16 scores pairs of the example tasks, 16 queries for each demonstration, packed with FlexAttention
and with a mask, each in turn with padded batches of 8 (``benchmarks/feedback.py`` explains the figures). ``chosen`` is
the way that udr takes by itself.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace

from card import REPOSITORY, part
from feedback import compared
from feedback_sides import groups

from udr.data import open_collection
from udr_training.feedback.local import CausalLM, masks

TASKS = REPOSITORY / "examples" / "tasks"
NAMES = ("product_reviews", "home_assistant", "shop_sql")


def main(given: Sequence[str] | None = None) -> None:
    part("feedback", __doc__, measure, given)


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    names, rounds = (NAMES[:1], 1) if arguments.quick else (NAMES, 5)
    on_card = arguments.device != "cpu"
    lm = CausalLM.load(arguments.lm, arguments.device, "bfloat16" if on_card else "float32")
    if lm.packing is None:
        raise SystemExit("feedback: no way of packing is exact for the model on this device")
    chosen, result = lm.packing, dict[str, object]()
    # torch compiles FlexAttention for the card; without one it takes minutes and shows nothing.
    forms = {"FlexAttention": masks.blocks, "mask": masks.dense} if on_card else {"mask": masks.dense}
    tasks = open_collection(TASKS, names).tasks
    for name, form in forms.items():
        style = masks.styles(lm.model, form)[0]
        lm.packing = replace(chosen, style=style)
        result[name] = {task: compared(lm, list(groups(tasks[task].pool(), task, rounds))) for task in names}
        if style.keywords == getattr(chosen.style, "keywords", None):
            result["chosen"] = name
    return result


if __name__ == "__main__":
    main()
