"""The cost of building a prompt relative to the tokenizer alone on the same text.

    python benchmarks/prompt.py [--tokenizer NAME] [--rounds N]

A prompt of 4,000 tokens is built from 64 candidates of made-up words, with the demonstrations' token counts from an
index, and without. The tokenizer alone counts the finished prompt once. The sides take turns; the results are medians
of the turns' ratios. The default tokenizer is SmolLM2's, if its package includes a ``tokenizer.json``, else the default
encoder's.

Prints a JSON line. Times are the thread's processor time.
"""

import json
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from measuring import in_turn, median, parser, ratios

from udr.data import Kind, Metric, Task, Template, formatting
from udr.errors import ModelError
from udr.models import BASE_ENCODER, DEFAULT_LM, LoadedTokenizer, load_tokenizer
from udr.prompts import Order, PromptBuilder
from udr.retrieval import RetrievedDemonstration
from udr.types import Row, TokenCount

CANDIDATES, BUDGET = 64, 4000
LABELS = ("location", "human", "entity", "number", "description", "abbreviation")
TASK = Task(
    name="made_up",
    family="made_up",
    kind=Kind.CLASSIFICATION,
    instruction="Give the type of answer the question asks for.",
    input=Template("Question: {question}"),
    output=Template("Answer type: {target}"),
    metric=Metric.ACCURACY,
    labels=LABELS,
)
SYLLABLES = "ba be co da de el fa ga in ka la le ma mo na ne or pa ra re sa se ta te ti to un va we zo".split()


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--tokenizer")
    options.add_argument("--rounds", type=int, default=21)
    arguments = options.parse_args()
    tokenizer = load_tokenizer(arguments.tokenizer) if arguments.tokenizer else _default()
    plain = candidates(tokenizer, random.Random(0))
    counted = [_counted(tokenizer, demonstration) for demonstration in plain]
    figures = {"tokenizer": tokenizer.name, "candidates": CANDIDATES}
    for order in Order:
        builder = PromptBuilder(tokenizer, BUDGET, order=order)
        figures |= {
            f"{order}_{key}": value for key, value in measure(builder, plain, counted, arguments.rounds).items()
        }
    print(json.dumps(figures))


def candidates(tokenizer: LoadedTokenizer, chance: random.Random) -> list[RetrievedDemonstration]:
    """Return demonstrations that together exceed the budget by about a tenth."""
    words = ["".join(chance.choices(SYLLABLES, k=chance.randint(1, 3))) for _ in range(2000)]
    share = BUDGET * 1.1 / CANDIDATES
    rows = []
    for number in range(CANDIDATES):
        question, length = chance.choice(words), share * chance.uniform(0.4, 1.6)
        while tokenizer.count(question) < length - 12:
            question += " " + chance.choice(words)
        rows.append(Row(id=f"row-{number:02}", input={"question": f"{question} ?"}, target=chance.choice(LABELS)))
    return [
        RetrievedDemonstration(
            id=row.id,
            task=TASK.name,
            similarity=round(0.9 - rank / 100, 5),
            rank=rank,
            input=row.input,
            target=row.target,
            text=formatting.demonstration_text(TASK, row),
        )
        for rank, row in enumerate(rows, start=1)
    ]


def measure(
    builder: PromptBuilder,
    plain: Sequence[RetrievedDemonstration],
    counted: Sequence[RetrievedDemonstration],
    rounds: int,
) -> dict[str, float]:
    """Return the size of the prompt, and the time of building it relative to counting it once."""
    query = {"question": "which word of these was made up last ?"}
    prompt = builder.build(TASK, query, counted)
    assert prompt == builder.build(TASK, query, plain)
    whole = prompt.text or ""
    sides = {
        "tokenizer": partial(builder.tokenizer.count, whole),
        "with_counts": partial(builder.build, TASK, query, counted),
        "without": partial(builder.build, TASK, query, plain),
    }
    taken = in_turn(sides, rounds, time.thread_time)
    return {
        "tokens": prompt.tokens,
        "demonstrations": len(prompt.demonstrations),
        "tokenizer_milliseconds": median([1000 * value for value in taken["tokenizer"]], 2),
        "times_with_counts": median(ratios(taken["with_counts"], taken["tokenizer"]), 2),
        "times_without": median(ratios(taken["without"], taken["tokenizer"]), 2),
    }


def _default() -> LoadedTokenizer:
    try:
        return load_tokenizer(DEFAULT_LM)
    except ModelError:
        return load_tokenizer(BASE_ENCODER)


def _counted(tokenizer: LoadedTokenizer, demonstration: RetrievedDemonstration) -> RetrievedDemonstration:
    (count,) = tokenizer.counts_inside([demonstration.text])
    return replace(demonstration, tokens=TokenCount(tokenizer=tokenizer.fingerprint, count=count))


if __name__ == "__main__":
    main()
