"""Whether the numbers about long texts tell whole texts from shuffled and from joined ones.

    python benchmarks/long_text.py TASKS [--tasks scitldr,yelp,dialogsum] [--rows 250]

Takes rows whose longest field has at least 8 sentences. Each text is also taken with its sentences shuffled, and with
its second half replaced by that of another text. Prints Markdown: by task, the area under the ROC curve, that is, how
often a whole text has more ``chains`` than a shuffled one, and fewer ``parts`` than a joined one; then the medians.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
from measuring import parser

from udr.data import FEWEST_SENTENCES, LongText, longest_text, measure_text, open_collection, sentences_of


def main() -> None:
    options = parser(__doc__)
    options.add_argument("tasks", type=Path)
    options.add_argument("--tasks", dest="names", default="scitldr,yelp,dialogsum")
    options.add_argument("--rows", type=int, default=250)
    arguments = options.parse_args()
    print(f"| task | texts | chains, whole over shuffled | parts, joined over whole | {_HEAD} |\n{'|---' * 10}|")
    for name, folder in open_collection(arguments.tasks, arguments.names.split(",")).tasks.items():
        longest = map(longest_text, folder.rows("train"))
        texts = [parts for parts in map(sentences_of, longest) if len(parts) >= FEWEST_SENTENCES][: arguments.rows]
        print(f"| {name} | {len(texts)} | {_row(texts)} |", flush=True)


_HEAD = " | ".join(f"{number}: {kind}" for number in ("chains", "parts") for kind in ("whole", "shuffled", "joined"))


def _row(texts: Sequence[list[str]]) -> str:
    draw = random.Random(0)
    kinds = {
        "whole": texts,
        "shuffled": [draw.sample(text, len(text)) for text in texts],
        "joined": [
            text[: len(text) // 2] + other[len(other) // 2 :]
            for text, other in zip(texts, [*texts[1:], texts[0]], strict=True)
        ],
    }
    measured = {kind: [measure_text("\n".join(text)) for text in own] for kind, own in kinds.items()}
    chains, parts = ({kind: _values(own, name) for kind, own in measured.items()} for name in ("chains", "parts"))
    figures = [_area(chains["whole"], chains["shuffled"]), _area(parts["joined"], parts["whole"])]
    medians = [median(values) for side in (chains, parts) for values in side.values()]
    return " | ".join(f"{figure:.2f}" for figure in (*figures, *medians))


def _values(texts: Sequence[LongText], name: str) -> list[float]:
    return [getattr(text, name) for text in texts]


def _area(higher: Sequence[float], lower: Sequence[float]) -> float:
    """Return how often a number of the first is above one of the second; ties count half."""
    difference = np.subtract.outer(higher, lower)
    return float(((difference > 0) + (difference == 0) / 2).mean())


if __name__ == "__main__":
    main()
