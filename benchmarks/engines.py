"""How far each query engine agrees with torch in float32, and its speed relative to it.

    python benchmarks/engines.py TASKS [--tasks NAME,...] [--device DEVICE] [--engines NAME,...]

Pools have at most ``--rows`` rows per task, encoded in float32; each engine encodes ``--queries`` test rows, spread
over the tasks. The overlap is the share of the 8 nearest demonstrations in the query's task that float32 also finds;
the cosine is that of a query's vector with float32's. For a language model's accuracy, see ``engines_accuracy.py``.
The engines take turns on the same texts: single texts, and batches of 64. Relative times are medians of the turns'
ratios. ``encode_query`` is Sentence-Transformers' own method in float32.

Prints a JSON line per engine. On shared cores only the ratios are reliable.
"""

import json
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
import torch
from measuring import Seconds, in_turn, median, parser, ratios

from udr.data import Collection, Pool, encoder_demonstration, open_collection, row_query, sample
from udr.models import BASE_ENCODER, Engine, SentenceEncoder, best_device, cpu_multiplies, engine_of, load_encoder
from udr.search import Vectors

K, BATCH, PLAIN = 8, 64, "encode_query"
Encode = Callable[[Sequence[str]], Vectors]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("folder", type=Path, metavar="TASKS")
    options.add_argument("--tasks")
    options.add_argument("--model", default=BASE_ENCODER)
    options.add_argument("--device")
    options.add_argument("--engines")
    options.add_argument("--rows", type=int, default=800)
    options.add_argument("--queries", type=int, default=300)
    options.add_argument("--rounds", type=int, default=5, help="batches of 64; ten times as many single texts")
    arguments = options.parse_args()
    device = best_device(arguments.device)
    names = arguments.engines.split(",") if arguments.engines else available(device)
    collection = open_collection(arguments.folder, arguments.tasks and arguments.tasks.split(","))
    queries = _queries(collection, arguments.queries)

    reference = load_encoder(arguments.model, device, Engine.TORCH)
    assert isinstance(reference, SentenceEncoder)
    engines: dict[str, Encode] = {Engine.TORCH: reference.encode_queries, PLAIN: _plain(reference)}
    for name in names:
        encoder = load_encoder(arguments.model, device, name)
        if engine_of(encoder) != name:
            print(f"{name}: replaced by {engine_of(encoder)}", file=sys.stderr)
        elif name != Engine.TORCH:
            engines[name] = encoder.encode_queries

    pools = {name: _encoded(reference, folder.pool(arguments.rows)) for name, folder in collection.tasks.items()}
    texts = [text for _, text in queries]
    vectors = {name: encode(texts) for name, encode in engines.items()}
    nearest = {name: _nearest(pools, queries, found) for name, found in vectors.items()}
    single = _timed(engines, [[text] for text in _cycled(texts, 10 * arguments.rounds)])
    batches = _timed(engines, [_cycled(texts[start:] + texts[:start], BATCH) for start in range(arguments.rounds)])
    for name in engines:
        pairs = zip(nearest[Engine.TORCH], nearest[name], strict=True)
        result = {
            "engine": name,
            "device": device,
            "threads": torch.get_num_threads(),
            "queries": len(queries),
            "tasks": len(pools),
            "overlap_at_8": round(float(np.mean([len(first & second) / len(first) for first, second in pairs])), 4),
            "cosine": round(float((cosines := _cosines(vectors[Engine.TORCH], vectors[name])).mean()), 5),
            "lowest_cosine": round(float(cosines.min()), 5),
            "one_text_milliseconds": median([1000 * value for value in single[name]], 2),
            "one_text_beside_torch": median(ratios(single[name], single[Engine.TORCH])),
            "texts_a_second": round(BATCH / median(batches[name], 9), 1),
            "rate_beside_torch": median(ratios(batches[Engine.TORCH], batches[name])),
        }
        print(json.dumps(result), flush=True)


def available(device: str) -> list[Engine]:
    """Return the engines for a device of this machine."""
    if device != "cpu":
        return [Engine.TORCH, Engine.TORCH_BF16, Engine.TORCH_FP16]
    bf16 = [Engine.TORCH_BF16] if cpu_multiplies("bfloat16") else []
    onnx = [Engine.ONNX, Engine.ONNX_INT8] if find_spec("onnxruntime") else []
    return [Engine.TORCH, *bf16, *onnx, *([Engine.OPENVINO] if find_spec("openvino") else [])]


def _queries(collection: Collection, count: int) -> list[tuple[str, str]]:
    """Return (task, text for the encoder), from each task in turn."""
    by_task = [
        [(name, row_query(folder.task, row)) for row in sample(folder.rows("test"), count, seed=0)]
        for name, folder in collection.tasks.items()
    ]
    return [query for query in chain.from_iterable(zip_longest(*by_task)) if query is not None][:count]


def _plain(encoder: SentenceEncoder) -> Encode:
    unit = encoder.metric == "cosine"
    return lambda texts: encoder.model.encode_query(list(texts), normalize_embeddings=unit, show_progress_bar=False)


def _encoded(encoder: SentenceEncoder, pool: Pool) -> Vectors:
    return encoder.encode_demonstrations([encoder_demonstration(pool.task, row) for row in pool.rows])


def _nearest(pools: dict[str, Vectors], queries: list[tuple[str, str]], vectors: Vectors) -> list[set[int]]:
    """Return each query's nearest positions in its pool, in search order: similarity to 5 decimals, then position."""
    similarities = [(pools[task] @ vector).round(5) for (task, _), vector in zip(queries, vectors, strict=True)]
    return [set(np.argsort(-values, kind="stable")[:K].tolist()) for values in similarities]


def _cosines(expected: Vectors, actual: Vectors) -> Vectors:
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(actual, axis=1)
    return np.asarray((expected * actual).sum(axis=1) / lengths)


def _cycled(texts: list[str], count: int) -> list[str]:
    return [texts[position % len(texts)] for position in range(count)]


def _timed(engines: dict[str, Encode], inputs: list[list[str]]) -> Seconds:
    """Return the seconds of each engine for each input, after a warm-up."""
    inputs_left = {name: iter([inputs[0], *inputs]) for name in engines}
    sides = {name: lambda name=name: engines[name](next(inputs_left[name])) for name in engines}
    return {name: values[1:] for name, values in in_turn(sides, len(inputs) + 1).items()}


if __name__ == "__main__":
    main()
