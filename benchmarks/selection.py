"""Which way of choosing demonstrations helps a language model most, at equal token budgets?

    python benchmarks/selection.py TASKS --out FOLDER [--tasks sst5,...] [--model NAME] [--budget 512]

TASKS is a collection. For each task, a pool of 800 rows is indexed, and for 150 test rows up to 32 demonstrations are
retrieved in each way; a prompt shows those that fit the budget, in the order of choice, and the language model answers
it. All ways have the same budget, counted by the language model's own tokenizer. Prints a Markdown table of values with
95 % bootstrap intervals, and of paired gains over the nearest. Answers are kept in FOLDER and not generated again.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from measuring import measured, parser

from udr.data import Kind, Pool, TaskFolder, open_collection, pool_digest, rows_digest, sample
from udr.models import BASE_ENCODER, DEFAULT_LM, SentenceEncoder
from udr.prompts import PromptBuilder
from udr.retrieval import RetrievalRequest, Retriever
from udr.types import Row
from udr_index.build import BuildConfig, build
from udr_training.evaluation import Estimate, mean, predict, task_estimate
from udr_training.feedback.local import CausalLM

TASKS = "sst5,trec,snli,mtop"
POOL, ROWS, MOST, SEED = 800, 150, 32, 0
WAYS: dict[str, dict[str, Any]] = {
    "nearest": {},
    "diversity 0.2": {"diversity": 0.2},
    "diversity 0.5": {"diversity": 0.5},
    "distinct 0.9": {"distinct": 0.9},
    "balance": {"balance": True},
    "balance, diversity 0.2": {"balance": True, "diversity": 0.2},
    "coverage 0.3": {"coverage": 0.3},
    **{f"hybrid {weight}": {"mode": "hybrid", "weight": weight} for weight in (0.3, 0.5, 0.7)},
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("tasks", type=Path)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--tasks", dest="names", default=TASKS)
    options.add_argument("--model", default=BASE_ENCODER)
    options.add_argument("--budget", type=int, default=512)
    options.add_argument("--dtype", default="bfloat16", help="of the language model")
    arguments = options.parse_args()
    names = arguments.names.split(",")
    collection = open_collection(arguments.tasks, names)
    index = arguments.out / "index"
    config = BuildConfig(
        tasks=arguments.tasks, out=index, model=arguments.model, names=tuple(names), pool=POOL, seed=SEED
    )
    build(config, SentenceEncoder.load(arguments.model))
    lm = CausalLM.load(DEFAULT_LM, "cpu", arguments.dtype)
    results: dict[str, dict[str, Estimate]] = {}
    with Retriever.open(index) as retriever:
        for name, folder in collection.tasks.items():
            queries = sample(folder.rows("test"), ROWS, SEED)
            settings = {
                "model": arguments.model,
                "budget": arguments.budget,
                "dtype": arguments.dtype,
                "rows": rows_digest(queries),
                "pool": pool_digest(folder.pool(POOL, SEED)),
            }
            for way in WAYS:
                if "balance" in way and folder.task.kind is not Kind.CLASSIFICATION:
                    continue
                kept = arguments.out / f"{name}.{way.replace(', ', '+').replace(' ', '-')}.json"
                answers = measured(kept, partial(_answers, folder, retriever, lm, way, arguments.budget), **settings)[
                    "answers"
                ]
                estimate = task_estimate(folder.task, queries, [answer["text"] for answer in answers], SEED)
                results.setdefault(way, {})[name] = estimate
                shown = sum(answer["shown"] for answer in answers) / len(answers)
                print(f"{name}, {way}: {estimate.value:.1f}, {shown:.1f} shown", file=sys.stderr, flush=True)
    _print(results, names)


@dataclass(frozen=True, slots=True)
class _Counter:
    """Counts tokens with the language model's tokenizer."""

    lm: CausalLM

    def count(self, text: str) -> int:
        return len(self.lm.tokens(text))


def _answers(folder: TaskFolder, retriever: Retriever, lm: CausalLM, way: str, budget: int) -> dict[str, Any]:
    """Return the language model's answer to each test row, and how many demonstrations it was shown."""
    pool: Pool = folder.pool(POOL, SEED)
    queries = sample(folder.rows("test"), ROWS, SEED)
    rows = {row.id: row for row in pool.rows}
    longest = max(len(lm.tokens(row.target)) for row in pool.rows)
    builder = PromptBuilder(_Counter(lm), budget, longest + 8)
    requests = [RetrievalRequest(input=row.input, task=folder.task.name, k=MOST, **WAYS[way]) for row in queries]
    shown: list[Sequence[Row]] = []
    for query, retrieval in zip(queries, retriever.retrieve_batch(requests), strict=True):
        prompt = builder.build(folder.task, query.input, retrieval)
        shown.append([rows[item.id] for item in prompt.demonstrations])
    texts = predict(lm, pool, queries, shown)
    answered = zip(queries, shown, texts, strict=True)
    return {"answers": [{"id": query.id, "shown": len(own), "text": text} for query, own, text in answered]}


def _print(results: dict[str, dict[str, Estimate]], names: Sequence[str]) -> None:
    print(f"| way | {' | '.join(names)} | mean of these |\n|---|{'---|' * (len(names) + 1)}")
    for way, values in results.items():
        cells = [_cell(values.get(name), results["nearest"][name]) for name in names]
        gain = mean([values[name] - results["nearest"][name] for name in values])
        low, high = gain.interval
        print(
            f"| {way} | {' | '.join(cells)} | {mean(list(values.values())).value:.1f}, "
            f"{gain.value:+.1f} ({low:+.1f} to {high:+.1f}) |"
        )


def _cell(value: Estimate | None, nearest: Estimate) -> str:
    if value is None:
        return ""
    low, high = (value - nearest).interval
    return f"{value.value:.1f} ({low:+.1f} to {high:+.1f})"


if __name__ == "__main__":
    main()
