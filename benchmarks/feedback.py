"""How fast the feedback is, beside the padded batches of the authors' scorer.

    python benchmarks/feedback.py --tasks TASKS [--quick] [--device cuda] [--cases NAME,...]

TASKS is a collection that holds sst5, sst2, commongen, trec, mnli, banking77, copa and clinc150. Prints one JSON line a
case. The padded side gives each demonstration, query and option a row of its own, in batches of 8, rows sorted by
length, with logits for every token; both sides score the same pairs, in turn, round by round, and the ratio is the
median of the rounds'. ``bound`` is the ratio of the multiplications that the two sides need, from their tokens and
their logits alone. ``--quick`` gives the first three cases.
"""

import argparse
import ctypes
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from udr.models import DEFAULT_LM
from udr.pool import Pool, open_collection, sample
from udr_training.candidates import Others, first_neighbours, propose
from udr_training.feedback.causal_lm import CausalLM
from udr_training.feedback.packing import Likelihoods, Prompt, pack
from udr_training.feedback.pairs import Pair, pair_prompt
from udr_training.feedback.scoring import pair_score
from udr_training.feedback.store import FeedbackStore, PairKey, Work

QUICK = {"5 labels": "sst5", "2 labels": "sst2", "generation": "commongen"}
WORKLOAD = ("sst5", "trec", "mnli", "banking77", "commongen", "copa")
MANY_LABELS = ("banking77", "clinc150")
ROWS = 8
QUERIES = 16
ROUNDS = 5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default=None, help="float32 on the CPU, bfloat16 elsewhere")
    parser.add_argument("--lm", default=DEFAULT_LM)
    parser.add_argument("--cases", default=None, help=f"of {', '.join(CASES)}")
    arguments = parser.parse_args()
    arguments.dtype = arguments.dtype or ("float32" if arguments.device == "cpu" else "bfloat16")
    named = arguments.cases.split(",") if arguments.cases else ["quick"] if arguments.quick else list(CASES)
    for name in named:
        for line in CASES[name](arguments):
            print(json.dumps(line), flush=True)
    return 0


def quick(arguments: argparse.Namespace) -> Iterator[dict]:
    """16 queries a demonstration: what packing gives where a group fills a pack."""
    lm = load(arguments)
    for case, task in QUICK.items():
        yield {"case": case, **compared(lm, list(groups(pool_of(arguments, task), task)))}


def workload(arguments: argparse.Namespace) -> Iterator[dict]:
    """100 queries a task with BM25's best 50: what packing gives where most groups are small."""
    lm = load(arguments)
    ratios = []
    for task in WORKLOAD:
        pool = pool_of(arguments, task)
        queries = sample(pool.rows, 100, 0)
        proposed = propose(Others(pool, 0), queries, first_neighbours(pool), 50, 0.0)
        rows = {row.id: row for row in pool.rows}
        pairs = [Pair(pool.task, rows[query], rows[id]) for query, ids in proposed.items() for id in ids]
        prompts = [pair_prompt(lm, pair) for pair in pairs]
        some = [prompts[place] for place in np.random.default_rng(0).permutation(len(prompts))[:60]]
        packs = lm.plan(prompts)
        # In slices, so that the padded side is timed between them and not after all of them.
        padded_seconds, packed_seconds, slices = 0.0, 0.0, 6
        for number in range(slices):
            own = [prompts[place] for numbers in packs[number::slices] for place in numbers]
            padded_seconds += seconds(partial(padded, lm, some[number::slices]))
            packed_seconds += seconds(partial(lm.likelihoods, own))
        rate, padded_rate = len(prompts) / packed_seconds, len(some) / padded_seconds
        ratios.append(rate / padded_rate)
        yield {
            "case": "workload",
            "task": task,
            "ratio": round(ratios[-1], 2),
            "pairs_per_second": round(rate, 2),
            "padded_pairs_per_second": round(padded_rate, 3),
            "pairs": len(prompts),
            "packs": len(packs),
            "bound": round(padded_cost(lm, some) / packed_cost(lm, prompts), 2),
        }
    yield {"case": "workload", "task": "geometric mean", "ratio": round(statistics.geometric_mean(ratios), 2)}


def many_labels(arguments: argparse.Namespace) -> Iterator[dict]:
    """77 and 150 labels: memory and throughput, each in a process of its own."""
    for task in MANY_LABELS:
        yield {"case": "many labels", "task": task, **in_child(arguments, "labels", task)}


def memory(arguments: argparse.Namespace) -> Iterator[dict]:
    """A prompt of 1,024 tokens with 10 options, beside the model's own forward pass without logits."""
    forward, scored = (
        [in_child(arguments, part, "")["above_weights_bytes"] for _ in range(ROUNDS)] for part in ("forward", "score")
    )
    yield {
        "case": "memory",
        "ratio": round(statistics.median(scored) / statistics.median(forward), 2),
        "forward_bytes": sorted(forward),
        "score_bytes": sorted(scored),
    }


def store(arguments: argparse.Namespace) -> Iterator[dict]:
    """A million pairs of 5 options in the store: bytes a pair, and how fast they are written and read."""
    total, chunk = 1_000_000, 1_000
    said = Likelihoods(np.zeros(5), (1,) * 5)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "feedback.sqlite"
        with FeedbackStore(path, "lm", "float32", "wording") as opened:
            keys = [
                PairKey.of(("", str(number // 50 * 37 % 20_000 + number % 50)), f"query {number // 50}", ())
                for number in range(total)
            ]
            written = seconds(
                lambda: [
                    opened.put(dict.fromkeys(keys[first : first + chunk], said), Work(pairs=chunk))
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
    """Pairs a second by the size of a pack: what ``PACK_TOKENS`` is chosen by."""
    for case, task in QUICK.items():
        pool = pool_of(arguments, task)
        for size in (128, 256, 512, 1024, 2048):
            lm = load(arguments, size)
            prompts = [prompt for group in groups(pool, task, 6) for prompt in words(lm, group)]
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


def load(arguments: argparse.Namespace, pack_tokens: int | None = None) -> CausalLM:
    return CausalLM.load(arguments.lm, arguments.device, arguments.dtype, pack_tokens)


def pool_of(arguments: argparse.Namespace, task: str) -> Pool:
    return open_collection(arguments.tasks, [task]).tasks[task].pool()


def groups(pool: Pool, task: str, count: int = ROUNDS) -> Iterator[list[Pair]]:
    """Yield demonstrations with 16 queries each; for generation, queries with targets of about 30 tokens."""
    rows = sample(pool.rows, None, 0)
    if task == "commongen":
        rows = sorted(rows, key=lambda row: abs(len(row.target.split()) - 26))[: count * (QUERIES + 1)]
    for number in range(count):
        demonstration, *queries = rows[number * (QUERIES + 1) : (number + 1) * (QUERIES + 1)]
        yield [Pair(pool.task, query, demonstration) for query in queries]


def words(lm: CausalLM, pairs: Sequence[Pair]) -> list[Prompt]:
    return [pair_prompt(lm, pair) for pair in pairs]


@torch.inference_mode()
def padded(lm: CausalLM, prompts: Sequence[Prompt]) -> list[list[float]]:
    """Score as the authors do: a row for each demonstration, query and option, all logits, batches of 8."""
    model, device = lm.model, next(lm.model.parameters()).device
    rows = [(prompt.context, option) for prompt in prompts for option in prompt.options]
    order = sorted(range(len(rows)), key=lambda place: -len(rows[place][0]) - len(rows[place][1]))
    sums = [0.0] * len(rows)
    for first in range(0, len(order), ROWS):
        batch = order[first : first + ROWS]
        ids = [torch.tensor([*rows[place][0], *rows[place][1]]) for place in batch]
        inputs = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True).to(device)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in ids], batch_first=True).to(device)
        logits = model(input_ids=inputs, attention_mask=mask, use_cache=False).logits
        losses = torch.nn.functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), inputs[:, 1:].flatten(), reduction="none"
        ).view(len(batch), -1)
        for number, place in enumerate(batch):
            start, end = len(rows[place][0]) - 1, len(rows[place][0]) + len(rows[place][1]) - 1
            sums[place] = -float(losses[number, start:end].double().sum())
    flat = iter(sums)
    return [[next(flat) for _ in prompt.options] for prompt in prompts]


def compared(lm: CausalLM, rounds: Sequence[Sequence[Pair]]) -> dict:
    """Score each round's pairs both ways, in turn, and compare rates and scores."""
    ratios, packed_rates, padded_rates, differences, bounds, shares = [], [], [], [], [], []
    rate = matrix_rate(lm)
    prompts = words(lm, rounds[0])
    padded(lm, prompts[:2])
    lm.likelihoods(prompts)
    for pairs in rounds:
        prompts = words(lm, pairs)
        started = time.perf_counter()
        slow = padded(lm, prompts)
        middle = time.perf_counter()
        fast = lm.likelihoods(prompts)
        ended = time.perf_counter()
        ratios.append((middle - started) / (ended - middle))
        padded_rates.append(len(pairs) / (middle - started))
        packed_rates.append(len(pairs) / (ended - middle))
        slow_cost, fast_cost = padded_cost(lm, prompts), packed_cost(lm, prompts)
        bounds.append(slow_cost / fast_cost)
        shares.append((packed_rates[-1] * fast_cost, padded_rates[-1] * slow_cost))
        alone = [Likelihoods(np.array(sums), said.num_tokens) for sums, said in zip(slow, fast, strict=True)]
        differences.append(
            max(
                abs(pair_score(pair, one) - pair_score(pair, other))
                for pair, one, other in zip(pairs, fast, alone, strict=True)
            )
        )
    return {
        "ratio": round(statistics.median(ratios), 2),
        "bound": round(statistics.median(bounds), 2),
        "share_of_bound": round(statistics.median(np.divide(ratios, bounds)), 3),
        "pairs_per_second": round(statistics.median(packed_rates), 2),
        "padded_pairs_per_second": round(statistics.median(padded_rates), 2),
        "share_of_matrix_rate": round(statistics.median(packed for packed, _ in shares) / rate, 3),
        "padded_share_of_matrix_rate": round(statistics.median(padded for _, padded in shares) / rate, 3),
        "largest_score_difference": float(f"{max(differences):.2g}"),
        "rounds": len(rounds),
    }


def costs(lm: CausalLM) -> tuple[int, int]:
    """Return the operations that a token takes in the model's body, and those of one place's logits."""
    model = lm.model
    embeddings = model.get_input_embeddings().weight.numel()
    body = sum(parameter.numel() for parameter in model.parameters()) - embeddings
    return 2 * body, 2 * model.get_output_embeddings().weight.numel()


def padded_cost(lm: CausalLM, prompts: Sequence[Prompt]) -> float:
    """Return the operations a pair where each option is a row, padded to its batch's longest, with all logits."""
    body, head = costs(lm)
    lengths = sorted((len(p.context) + len(option) for p in prompts for option in p.options), reverse=True)
    batches = [lengths[first : first + ROWS] for first in range(0, len(lengths), ROWS)]
    return sum(len(batch) * batch[0] for batch in batches) * (body + head) / len(prompts)


def packed_cost(lm: CausalLM, prompts: Sequence[Prompt]) -> float:
    """Return the operations a pair where what is shared comes once, and logits only where they are read."""
    body, head = costs(lm)
    packs = [pack([prompts[place] for place in numbers]) for numbers in lm.plan(prompts)]
    return sum(len(one) * body + len(np.unique(one.sources)) * head for one in packs) / len(prompts)


def matrix_rate(lm: CausalLM) -> float:
    """Return the operations a second of a large matrix product in the model's device and dtype."""
    weights = next(lm.model.parameters())
    size = 2048 if weights.device.type == "cpu" else 8192
    one, other = (torch.randn(size, size, device=weights.device, dtype=weights.dtype) for _ in range(2))

    def product() -> None:
        one @ other
        if weights.device.type == "cuda":
            torch.cuda.synchronize()

    product()
    return 2 * size**3 / min(seconds(product) for _ in range(5))


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_child(arguments: argparse.Namespace, part: str, task: str) -> dict:
    """Run one part in a fresh process, so that its peak of memory is its own."""
    settings = json.dumps({**vars(arguments), "tasks": str(arguments.tasks)})
    command = [sys.executable, str(Path(__file__)), "--child", part, task, settings]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def child(part: str, task: str, settings: str) -> dict:
    arguments = argparse.Namespace(**json.loads(settings))
    arguments.tasks = Path(arguments.tasks)
    lm = load(arguments)
    weights = settle()
    long = tuple(int(token) for token in np.random.default_rng(0).integers(1000, 40_000, size=1024))
    options = tuple((1000 + number, 2000, 3000) for number in range(10))
    if part == "forward":
        with torch.inference_mode():
            lm.model.base_model(input_ids=torch.tensor([long], device=arguments.device), use_cache=False)
        return {"above_weights_bytes": peak() - weights}
    if part == "score":
        lm.likelihoods([Prompt((long,), options)])
        return {"above_weights_bytes": peak() - weights}
    prompts = [prompt for group in groups(pool_of(arguments, task), task, 2) for prompt in words(lm, group)]
    took = seconds(lambda: lm.likelihoods(prompts))
    labels = len(prompts[0].options)
    return {"labels": labels, "peak_gib": round(peak() / 2**30, 2), "pairs_per_second": round(len(prompts) / took, 2)}


def settle() -> int:
    """Give free memory back to the system, begin a new peak, and return what is held, in bytes."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return held("VmRSS")


def peak() -> int:
    """Return the most memory that this process has held since, in bytes; the GPU's where it uses one."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    return held("VmHWM")


def held(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(child(*sys.argv[2:])))
    else:
        sys.exit(main())
