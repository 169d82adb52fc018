"""What building a prompt costs beside the tokenizer alone on the same text.

    python benchmarks/prompt.py [--tokenizer NAME] [--rounds N]

A prompt of 4,000 tokens is built from 64 candidates of made-up words, with the demonstrations' token counts as an index
keeps them, and without. The tokenizer alone counts the finished prompt once. Measured in turns; what is beside the
tokenizer is the median of the turns' ratios. Without ``--tokenizer`` it is SmolLM2's, where its package comes with a
``tokenizer.json``, else that of the default encoder.

Prints a JSON line. Times are those that the thread had a core.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from udr.data import Kind, Metric, Task, Template, formatting
from udr.errors import ModelError
from udr.models import DEFAULT_ENCODER, DEFAULT_LM, LoadedTokenizer, load_tokenizer
from udr.prompts import Format, Order, PromptBuilder
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer")
    parser.add_argument("--rounds", type=int, default=21)
    arguments = parser.parse_args()
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
    return 0


def candidates(tokenizer: LoadedTokenizer, chance: random.Random) -> list[RetrievedDemonstration]:
    """Return demonstrations that together are about a tenth more than fits."""
    words = ["".join(chance.choices(SYLLABLES, k=chance.randint(1, 3))) for _ in range(2000)]
    share = BUDGET * 1.1 / CANDIDATES
    rows = []
    for number in range(CANDIDATES):
        question, wanted = chance.choice(words), share * chance.uniform(0.4, 1.6)
        while tokenizer.count(question) < wanted - 12:
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
    """Return tokens and demonstrations of the prompt, and how long building takes beside counting it once."""
    query = {"question": "which word of these was made up last ?"}
    prompt = builder.build(TASK, query, counted)
    assert prompt == builder.build(TASK, query, plain)
    whole = prompt.text or ""
    alone, with_counts, without = [], [], []
    for _ in range(rounds):
        alone.append(_seconds(lambda: builder.tokenizer.count(whole)))
        with_counts.append(_seconds(lambda: builder.build(TASK, query, counted, Format.TEXT)))
        without.append(_seconds(lambda: builder.build(TASK, query, plain, Format.TEXT)))
    return {
        "tokens": prompt.tokens,
        "demonstrations": len(prompt.demonstrations),
        "tokenizer_milliseconds": round(1000 * statistics.median(alone), 2),
        "times_with_counts": _ratio(with_counts, alone),
        "times_without": _ratio(without, alone),
    }


def _default() -> LoadedTokenizer:
    try:
        return load_tokenizer(DEFAULT_LM)
    except ModelError:
        return load_tokenizer(DEFAULT_ENCODER)


def _counted(tokenizer: LoadedTokenizer, demonstration: RetrievedDemonstration) -> RetrievedDemonstration:
    (count,) = tokenizer.counts_inside([demonstration.text])
    return replace(demonstration, tokens=TokenCount(tokenizer=tokenizer.fingerprint, count=count))


def _seconds(work: Callable[[], object]) -> float:
    start = time.thread_time()
    work()
    return time.thread_time() - start


def _ratio(times: Sequence[float], beside: Sequence[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(times, beside, strict=True)), 2)


if __name__ == "__main__":
    raise SystemExit(main())
