"""Whether a language model tells whole texts from shuffled and from joined ones, text by text.

    python benchmarks/long_text_lm.py TASKS [--tasks dialogsum,yelp,scitldr] [--rows 70] [--sentences 8] [--lm MODEL]

Takes the first sentences of rows whose longest field has at least 8. Each text is also taken with its sentences
shuffled, and with its second half replaced by that of another text of its task. Prints Markdown, by task and for all:
the area under the ROC curve of `order`, whole over shuffled texts, and of `joint`, whole over joined ones; beside
them those of the words alone (`chains`, `parts`); and the shares of texts of each kind that are called chaotic or
aggregated.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import numpy as np
from measuring import parser

from udr.data import FEWEST_SENTENCES, longest_text, measure_text, open_collection, sentences_of
from udr.models import DEFAULT_LM, Coherence, coherence
from udr_training.feedback.local import CausalLM

Texts = Sequence[Sequence[str]]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("tasks", type=Path)
    options.add_argument("--tasks", dest="names", default="dialogsum,yelp,scitldr")
    options.add_argument("--rows", type=int, default=70)
    options.add_argument("--sentences", type=int, default=8)
    options.add_argument("--lm", default=DEFAULT_LM)
    options.add_argument("--dtype", default="bfloat16")
    arguments = options.parse_args()
    lm = CausalLM.load(arguments.lm, dtype=arguments.dtype)
    print("| task | texts | order | chains | joint | parts | called chaotic, aggregated: whole | shuffled | joined |")
    print("|" + "---|" * 9)
    every: dict[str, list[tuple[Coherence, Sequence[str]]]] = {}
    for name, folder in open_collection(arguments.tasks, arguments.names.split(",")).tasks.items():
        longest = map(longest_text, folder.rows("train"))
        texts = [parts for parts in map(sentences_of, longest) if len(parts) >= FEWEST_SENTENCES]
        sides = kinds([text[: arguments.sentences] for text in texts[: arguments.rows]])
        # All at once, since they share parts.
        found = iter(coherence(lm, [text for side in sides.values() for text in side]))
        own = {kind: [(next(found), text) for text in side] for kind, side in sides.items()}
        for kind, measured in own.items():
            every.setdefault(kind, []).extend(measured)
        print(_row(name, own), flush=True)
    print(_row("all", every))


def kinds(texts: Texts) -> dict[str, Texts]:
    """Return texts as they are, shuffled, and joined of two halves."""
    draw = Random(0)
    others = [*texts[1:], texts[0]]
    return {
        "whole": texts,
        "shuffled": [draw.sample(text, len(text)) for text in texts],
        "joined": [
            [*text[: len(text) // 2], *other[len(other) // 2 :]] for text, other in zip(texts, others, strict=True)
        ],
    }


def _row(name: str, found: Mapping[str, Sequence[tuple[Coherence, Sequence[str]]]]) -> str:
    words = {kind: [measure_text("\n".join(text)) for _, text in own] for kind, own in found.items()}
    order, joint = (
        {kind: [getattr(one, at) for one, _ in own] for kind, own in found.items()} for at in ("order", "joint")
    )
    areas = [
        area(order["whole"], order["shuffled"]),
        area([text.chains for text in words["whole"]], [text.chains for text in words["shuffled"]]),
        area(joint["whole"], joint["joined"]),
        area([text.parts for text in words["joined"]], [text.parts for text in words["whole"]]),
    ]
    shares = [
        ", ".join(
            f"{sum(one.kind == kind for one, _ in found[side]) / len(found[side]):.0%}"
            for kind in ("chaotic", "aggregated")
        )
        for side in ("whole", "shuffled", "joined")
    ]
    return f"| {name} | {len(found['whole'])} | {' | '.join([*(f'{value:.2f}' for value in areas), *shares])} |"


def area(higher: Sequence[float], lower: Sequence[float]) -> float:
    """Return how often a number of the first is above one of the second; ties count half."""
    difference = np.subtract.outer(higher, lower)
    return float(((difference > 0) + (difference == 0) / 2).mean())


if __name__ == "__main__":
    main()
