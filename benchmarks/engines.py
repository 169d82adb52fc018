"""How far each engine for queries agrees with torch in float32, and how fast it is beside it.

    python benchmarks/engines.py TASKS [--tasks NAME,...] [--device DEVICE] [--engines NAME,...]

Pools are cut to ``--rows`` rows a task and encoded in float32; ``--queries`` test rows, spread over the tasks, are
encoded by each engine. The agreement is the share of the 8 nearest demonstrations in the query's task that are also
float32's. Times are taken in turns over the engines, on the same texts: one text, and batches of 64 as they come; what
is beside torch is the median of the turns' ratios. ``encode_query`` is Sentence-Transformers' own method in float32.

Prints a JSON line an engine. Times on shared cores are only good for their ratios.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
import torch

from udr.data import Collection, Pool, encoder_demonstration, open_collection, row_query, sample
from udr.models import DEFAULT_ENCODER, Engine, SentenceEncoder, best_device, cpu_has_bf16, engine_of, load_encoder
from udr.search import Vectors

K, BATCH, PLAIN = 8, 64, "encode_query"
Encode = Callable[[Sequence[str]], Vectors]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="TASKS")
    parser.add_argument("--tasks")
    parser.add_argument("--model", default=DEFAULT_ENCODER)
    parser.add_argument("--device")
    parser.add_argument("--engines")
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5, help="batches of 64; ten times as many single texts")
    arguments = parser.parse_args()
    device = best_device(arguments.device)
    names = arguments.engines.split(",") if arguments.engines else available(device)
    collection = open_collection(arguments.folder, arguments.tasks and arguments.tasks.split(","))
    queries = _queries(collection, arguments.queries)

    torch_fp32 = load_encoder(arguments.model, device, Engine.TORCH)
    assert isinstance(torch_fp32, SentenceEncoder)
    engines: dict[str, Encode] = {Engine.TORCH: torch_fp32.encode_queries, PLAIN: _plain(torch_fp32)}
    for name in names:
        encoder = load_encoder(arguments.model, device, name)
        if engine_of(encoder) != name:
            print(f"{name}: gave way to {engine_of(encoder)}", file=sys.stderr)
        elif name != Engine.TORCH:
            engines[name] = encoder.encode_queries

    pools = {name: _encoded(torch_fp32, folder.pool(arguments.rows)) for name, folder in collection.tasks.items()}
    texts = [text for _, text in queries]
    found = {name: _nearest(pools, queries, encode(texts)) for name, encode in engines.items()}
    single = _in_turn(engines, [[text] for text in _cycled(texts, 10 * arguments.rounds)])
    batches = _in_turn(engines, [_cycled(texts[place:] + texts[:place], BATCH) for place in range(arguments.rounds)])
    for name in engines:
        figures = {
            "engine": name,
            "device": device,
            "threads": torch.get_num_threads(),
            "queries": len(queries),
            "tasks": len(pools),
            "overlap_at_8": round(_overlap(found[Engine.TORCH], found[name]), 4),
            "one_text_milliseconds": round(1000 * float(np.median(single[name])), 2),
            "one_text_beside_torch": _ratio(single, name, Engine.TORCH),
            "texts_a_second": round(BATCH / float(np.median(batches[name])), 1),
            "rate_beside_torch": _ratio(batches, Engine.TORCH, name),
        }
        print(json.dumps(figures), flush=True)
    return 0


def available(device: str) -> list[Engine]:
    """Return the engines that make sense on a device of this machine."""
    if device != "cpu":
        return [Engine.TORCH, Engine.TORCH_BF16, Engine.TORCH_FP16]
    bf16 = [Engine.TORCH_BF16] if cpu_has_bf16() else []
    return [Engine.TORCH, *bf16, *([Engine.ONNX] if find_spec("onnxruntime") else [])]


def _queries(collection: Collection, count: int) -> list[tuple[str, str]]:
    """Return (task, what the encoder reads), of each task in turn."""
    by_task = [
        [(name, row_query(folder.task, row)) for row in sample(folder.rows("test"), count, seed=0)]
        for name, folder in collection.tasks.items()
    ]
    return [one for one in chain.from_iterable(zip_longest(*by_task)) if one is not None][:count]


def _plain(encoder: SentenceEncoder) -> Encode:
    def encode(texts: Sequence[str]) -> Vectors:
        unit = encoder.metric == "cosine"
        return encoder.model.encode_query(list(texts), normalize_embeddings=unit, show_progress_bar=False)

    return encode


def _encoded(encoder: SentenceEncoder, pool: Pool) -> Vectors:
    return encoder.encode_demonstrations([encoder_demonstration(pool.task, row) for row in pool.rows])


def _nearest(pools: dict[str, Vectors], queries: list[tuple[str, str]], vectors: Vectors) -> list[set[int]]:
    """Return the places of the nearest in each query's pool, as search orders them: similarity to 5 decimals, place."""
    similarities = [(pools[task] @ vector).round(5) for (task, _), vector in zip(queries, vectors, strict=True)]
    return [set(np.argsort(-values, kind="stable")[:K].tolist()) for values in similarities]


def _overlap(expected: list[set[int]], found: list[set[int]]) -> float:
    return float(np.mean([len(one & other) / len(one) for one, other in zip(expected, found, strict=True)]))


def _cycled(texts: list[str], count: int) -> list[str]:
    return [texts[place % len(texts)] for place in range(count)]


def _in_turn(engines: dict[str, Encode], works: list[list[str]]) -> dict[str, list[float]]:
    """Return the seconds of each engine for each work; each first does one that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in engines}
    for work in [works[0], *works]:
        for name, encode in engines.items():
            started = time.perf_counter()
            encode(work)
            taken[name].append(time.perf_counter() - started)
    return {name: seconds[1:] for name, seconds in taken.items()}


def _ratio(seconds: dict[str, list[float]], over: str, under: str) -> float:
    return round(float(np.median(np.divide(seconds[over], seconds[under]))), 3)


if __name__ == "__main__":
    sys.exit(main())
