"""The speed of the feedback relative to the padded batches of the authors' scorer.

    python benchmarks/feedback.py --tasks TASKS [--quick] [--device cuda] [--cases NAME,...] [--log FILE]

TASKS is a collection with sst5, sst2, commongen, trec, mnli, banking77, copa and clinc150. Prints a JSON line per case.
The padded side gives each demonstration, query and option its own row, in batches of 8, sorted by length, with logits
for every token. Both sides score the same pairs in turn; the ratio is the median of the rounds. ``bound`` is the ratio
of the multiplications that the two sides need for their tokens and logits. ``--quick`` runs the first three cases. The
workload takes an hour: ``--log`` also appends lines to a file, and tasks of the workload that are in it are skipped.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from feedback_child import in_child
from feedback_sides import ROUNDS, groups, load, matrix_rate, packed_cost, padded, padded_cost, pool_of
from measuring import median, parser, seconds

from udr.data import Pool, sample
from udr.models import DEFAULT_LM
from udr_training.candidates import CandidatePool, first_neighbours, propose
from udr_training.feedback import FeedbackStore, Pair, PairKey, Work, pair_prompt, pair_score
from udr_training.feedback.local import CausalLM
from udr_training.feedback.packing import Likelihoods, Prompt

QUICK = {"5 labels": "sst5", "2 labels": "sst2", "generation": "commongen"}
WORKLOAD = ("sst5", "trec", "mnli", "banking77", "commongen", "copa")
MANY_LABELS = ("banking77", "clinc150")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--tasks", type=Path, required=True)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--device", default="cpu")
    options.add_argument("--dtype", default=None, help="float32 on the CPU, bfloat16 elsewhere")
    options.add_argument("--lm", default=DEFAULT_LM)
    options.add_argument("--cases", default=None, help=f"of {', '.join(CASES)}")
    options.add_argument("--log", type=Path, default=None, help="a file with earlier lines, to resume from")
    arguments = options.parse_args()
    arguments.dtype = arguments.dtype or ("float32" if arguments.device == "cpu" else "bfloat16")
    named = arguments.cases.split(",") if arguments.cases else ["quick"] if arguments.quick else list(CASES)
    for name in named:
        for line in CASES[name](arguments):
            print(json.dumps(line), flush=True)
            if arguments.log:
                with arguments.log.open("a", encoding="utf-8") as log:
                    log.write(f"{json.dumps(line)}\n")


def quick(arguments: argparse.Namespace) -> Iterator[dict]:
    """16 queries per demonstration: groups that fill a pack."""
    lm = load(arguments)
    for case, task in QUICK.items():
        yield {"case": case, **compared(lm, list(groups(pool_of(arguments, task), task)))}


def workload(arguments: argparse.Namespace) -> Iterator[dict]:
    """100 queries per task with BM25's best 50: most groups are small."""
    before = arguments.log.read_text("utf-8").splitlines() if arguments.log and arguments.log.exists() else []
    ratios = {line["task"]: line["ratio"] for line in map(json.loads, before) if line["case"] == "workload"}
    lm = load(arguments)
    for task in WORKLOAD:
        if task not in ratios:
            line = worked(lm, pool_of(arguments, task))
            ratios[task] = line["ratio"]
            yield {"case": "workload", "task": task, **line}
    mean = statistics.geometric_mean(ratios[task] for task in WORKLOAD)
    yield {"case": "workload", "task": "geometric mean", "ratio": round(mean, 2)}


def worked(lm: CausalLM, pool: Pool) -> dict:
    """Score one task's workload, and 60 of its pairs the padded way."""
    queries = sample(pool.rows, 100, 0)
    proposed = propose(CandidatePool(pool, 0), queries, first_neighbours(pool), 50, 0.0)
    rows = {row.id: row for row in pool.rows}
    prompts = prompts_of(lm, [Pair(pool.task, rows[query], rows[id]) for query, ids in proposed.items() for id in ids])
    some = [prompts[number] for number in np.random.default_rng(0).permutation(len(prompts))[:60]]
    packs = lm.plan(prompts)
    # In slices, so that the two sides take turns.
    padded_seconds, packed_seconds, slices = 0.0, 0.0, 6
    for number in range(slices):
        own = [prompts[n] for numbers in packs[number::slices] for n in numbers]
        padded_seconds += seconds(partial(padded, lm, some[number::slices]))
        packed_seconds += seconds(partial(lm.likelihoods, own))
    rate, padded_rate = len(prompts) / packed_seconds, len(some) / padded_seconds
    return {
        "ratio": round(rate / padded_rate, 2),
        "pairs_per_second": round(rate, 2),
        "padded_pairs_per_second": round(padded_rate, 3),
        "pairs": len(prompts),
        "packs": len(packs),
        "bound": round(padded_cost(lm, some) / packed_cost(lm, prompts), 2),
    }


def many_labels(arguments: argparse.Namespace) -> Iterator[dict]:
    """77 and 150 labels: memory and throughput, each in its own process."""
    for task in MANY_LABELS:
        yield {"case": "many labels", "task": task, **in_child(arguments, "labels", task)}


def memory(arguments: argparse.Namespace) -> Iterator[dict]:
    """A prompt of 1,024 tokens with 10 options, relative to the model's forward pass without logits.

    Once with the system's allocator, which keeps some freed memory, and once with one that returns all of it.
    """
    returns_all = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    for counted, environment in {"held": {}, "used": returns_all}.items():
        rounds = [
            [in_child(arguments, part, "", environment)["above_weights_bytes"] for part in ("forward", "score")]
            for _ in range(ROUNDS)
        ]
        forward, scored = zip(*rounds, strict=True)
        yield {
            "case": "memory",
            "counted": counted,
            "ratio": round(median(scored, 9) / median(forward, 9), 2),
            "forward_bytes": sorted(forward),
            "score_bytes": sorted(scored),
        }


def store(arguments: argparse.Namespace) -> Iterator[dict]:
    """A million pairs of 5 options in the store: bytes per pair, and write and read rates."""
    total, chunk = 1_000_000, 1_000
    likelihoods = Likelihoods(np.zeros(5), (1,) * 5)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "feedback.sqlite"
        with FeedbackStore(path, "lm", "float32", "wording") as opened:
            keys = [
                PairKey.of(("", str(number // 50 * 37 % 20_000 + number % 50)), f"query {number // 50}", ())
                for number in range(total)
            ]
            written = seconds(
                lambda: [
                    opened.put(dict.fromkeys(keys[first : first + chunk], likelihoods), Work(pairs=chunk))
                    for first in range(0, total, chunk)
                ]
            )
            read = seconds(lambda: opened.get(keys[:100_000]))
            stored = len(opened)
        yield {
            "case": "store",
            "pairs": stored,
            "bytes_per_pair": round(path.stat().st_size / stored, 1),
            "written_per_second": round(stored / written),
            "read_per_second": round(100_000 / read),
        }


def pack_tokens(arguments: argparse.Namespace) -> Iterator[dict]:
    """Pairs a second by pack size, to choose ``PACK_TOKENS``."""
    for case, task in QUICK.items():
        pool = pool_of(arguments, task)
        for size in (128, 256, 512, 1024, 2048):
            lm = load(arguments, size)
            prompts = [prompt for group in groups(pool, task, 6) for prompt in prompts_of(lm, group)]
            rates = [len(prompts) / seconds(partial(lm.likelihoods, prompts)) for _ in range(3)]
            yield {"case": "pack tokens", "of": case, "tokens": size, "pairs_per_second": round(max(rates), 2)}


CASES: dict[str, Callable[[argparse.Namespace], Iterator[dict]]] = {
    "quick": quick,
    "workload": workload,
    "many labels": many_labels,
    "memory": memory,
    "store": store,
    "pack tokens": pack_tokens,
}


def prompts_of(lm: CausalLM, pairs: Sequence[Pair]) -> list[Prompt]:
    return [pair_prompt(lm, pair) for pair in pairs]


def compared(lm: CausalLM, rounds: Sequence[Sequence[Pair]]) -> dict:
    """Score each round's pairs both ways, in turn, and compare rates and scores."""
    rate = matrix_rate(lm)
    warm = prompts_of(lm, rounds[0])
    padded(lm, warm[:2])
    lm.likelihoods(warm)
    turns, difference = [], 0.0
    for pairs in rounds:
        prompts = prompts_of(lm, pairs)
        started = time.perf_counter()
        slow = padded(lm, prompts)
        middle = time.perf_counter()
        fast = lm.likelihoods(prompts)
        turns.append(
            (middle - started, time.perf_counter() - middle, padded_cost(lm, prompts), packed_cost(lm, prompts))
        )
        for pair, sums, packed in zip(pairs, slow, fast, strict=True):
            alone = Likelihoods(np.array(sums), packed.num_tokens)
            difference = max(difference, abs(pair_score(pair, packed) - pair_score(pair, alone)))
    slow_seconds, fast_seconds, slow_cost, fast_cost = np.array(turns).T
    ratio, bound = slow_seconds / fast_seconds, slow_cost / fast_cost
    slow_rate, fast_rate = (np.array([len(pairs) for pairs in rounds]) / side for side in (slow_seconds, fast_seconds))
    return {
        "ratio": median(ratio, 2),
        "bound": median(bound, 2),
        "share_of_bound": median(ratio / bound),
        "pairs_per_second": median(fast_rate, 2),
        "padded_pairs_per_second": median(slow_rate, 2),
        "share_of_matrix_rate": median(fast_rate * fast_cost / rate),
        "padded_share_of_matrix_rate": median(slow_rate * slow_cost / rate),
        "largest_score_difference": float(f"{difference:.2g}"),
        "rounds": len(rounds),
    }


if __name__ == "__main__":
    main()
