"""Feedback on the card: FlexAttention and masks, beside padded batches and beside the card's matrix rate.

    python benchmarks/gpu/card_feedback.py --out FOLDER

SmolLM2-135M in bfloat16 scores pairs of the example tasks: in each of five rounds four demonstrations with 76 queries,
each demonstration a pack of 2,100 to 3,100 tokens. They are packed with FlexAttention and with a mask, each in turn
with padded batches of 8 (``benchmarks/feedback.py`` explains the figures). ``chosen`` is the way that udr takes by
itself.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from card import REPOSITORY, part
from feedback import compared

from udr.data import Pool, open_collection, sample
from udr_training.feedback import Pair
from udr_training.feedback.local import CausalLM, masks

TASKS = REPOSITORY / "examples" / "tasks"
NAMES = ("product_reviews", "home_assistant", "shop_sql")
ROUNDS, DEMONSTRATIONS = 5, 4


def main(given: Sequence[str] | None = None) -> None:
    part("feedback", __doc__, measure, given)


def measure(arguments: argparse.Namespace) -> Iterator[tuple[str, Callable[[], object]]]:
    names, rounds = (NAMES[:1], 1) if arguments.quick else (NAMES, ROUNDS)
    on_card = arguments.device != "cpu"
    lm = CausalLM.load(arguments.lm, arguments.device, "bfloat16" if on_card else "float32")
    if lm.packing is None:
        raise SystemExit("feedback: no way of packing is exact for the model on this device")
    chosen = lm.packing
    # torch compiles FlexAttention for the card; without one it takes minutes and shows nothing.
    forms = {"mask": masks.dense, "FlexAttention": masks.blocks} if on_card else {"mask": masks.dense}
    blocked = getattr(chosen.style, "keywords", {}).get("form") is masks.blocks
    yield "chosen", lambda: "FlexAttention" if blocked else "mask"
    tasks = open_collection(TASKS, names).tasks
    pairs = {task: _pairs(tasks[task].pool(), rounds) for task in names}

    def packed_by(form: masks.Form) -> dict[str, object]:
        styles = masks.styles(lm.model, form)
        if not styles:
            raise ValueError("the model does not support it")
        lm.packing = replace(chosen, style=styles[0])
        return {task: compared(lm, pairs[task]) for task in names}

    for name, form in forms.items():
        yield name, partial(packed_by, form)


def _pairs(pool: Pool, rounds: int) -> list[list[Pair]]:
    """Return pairs of a few demonstrations with all rows that are a demonstration in no round."""
    rows = sample(pool.rows, None, 0)
    queries = rows[ROUNDS * DEMONSTRATIONS :]
    starts = range(0, rounds * DEMONSTRATIONS, DEMONSTRATIONS)
    return [
        [Pair(pool.task, query, row) for row in rows[start : start + DEMONSTRATIONS] for query in queries]
        for start in starts
    ]


if __name__ == "__main__":
    main()
