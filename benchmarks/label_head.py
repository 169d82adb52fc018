"""What a label head changes: the share of the demonstrations shown that have the query's label.

    python benchmarks/label_head.py TASKS [--tasks sst2,cr,...] [--model MODEL] [--pool 800] [--rows 150]

Builds an index of each task's pool by default settings, so a task gets a head where cross-validation shows a gain, and
retrieves 4 demonstrations for each test row without a head, with one that reads the query as a whole, and with the
default one, which may read two fields apart. Prints Markdown: the shares on the test rows; the texts that the encoder
reads for a query; the shares of cross-validation, which decided; the seconds of fitting, without encoding; and the
microseconds that the head's arithmetic adds to a query. No language model is asked.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
from measuring import median, parser, seconds
from quality_calls import SHOTS

from udr.data import TaskFolder, encoder_fields, field_texts, open_collection, row_query, sample
from udr.models import BASE_ENCODER, Encoder, load_encoder
from udr.retrieval import RetrievalRequest, Retriever
from udr.search import Vectors
from udr.store import open_version
from udr.types import Row
from udr_index.build import BuildConfig, build, heads

TASKS = "sst2,cr,subj,trec,sst5,cola,snli,qnli"
REPEATS = 200


def main() -> None:
    options = parser(__doc__)
    options.add_argument("tasks", type=Path)
    options.add_argument("--tasks", dest="names", default=TASKS)
    options.add_argument("--model", default=BASE_ENCODER)
    options.add_argument("--pool", type=int, default=800)
    options.add_argument("--rows", type=int, default=150)
    arguments = options.parse_args()
    collection, encoder = open_collection(arguments.tasks, arguments.names.split(",")), load_encoder(arguments.model)
    shares = "without | head | head, fields apart | encoder passes | cross-validated"
    print(f"| task | labels | {shares} | alpha | C | fitted in | per query |\n{'|---' * 11}|", flush=True)
    for folder in collection.tasks.values():
        with tempfile.TemporaryDirectory() as out:
            config = BuildConfig(tasks=arguments.tasks, out=Path(out), names=(folder.task.name,), pool=arguments.pool)
            print(_measured(config, folder, encoder, sample(folder.rows("test"), arguments.rows, 0)), flush=True)


def _measured(config: BuildConfig, folder: TaskFolder, encoder: Encoder, queries: list[Row]) -> str:
    task, whole = folder.task, ""
    queries_of = partial(_share, task=task.name, queries=queries)
    if len(encoder_fields(task)) == 2:
        build(replace(config, head_fields=False), encoder)
        with Retriever.open(config.out, encoder=encoder) as retriever:
            whole = f"{queries_of(retriever):.2f}"
        config = replace(config, reuse=config.out)
    clocked, fit, fitted = _Clocked(encoder), heads.fit, 0.0

    def timed(*arguments: object) -> heads.Fitted | None:
        nonlocal fitted
        start = time.perf_counter()
        result = fit(*arguments)  # type: ignore[arg-type]
        fitted = time.perf_counter() - start - sum(stop - begin for begin, stop in clocked.spans if begin > start)
        return result

    with patch.object(heads, "fit", timed):
        build(config, clocked)
    version = open_version(config.out)
    stamp, head = version.manifest.partitions[task.name].label_head, version.label_head(task.name)
    with Retriever.open(config.out, encoder=encoder) as retriever:
        without, with_head = queries_of(retriever, use=False), queries_of(retriever)
        passes = retriever.encoder_passes[task.name]
    start = f"| {task.name} | {len(task.labels)} | {without:.2f} |"
    if stamp is None or head is None:
        return f"{start} no head | | 1 | | | | | |"
    vectors = encoder.encode_queries([row_query(task, row) for row in queries[:1]])
    texts = field_texts(queries[0].input, head.fields)
    fields = encoder.encode_queries(texts)[None] if texts else None

    def arithmetic() -> Vectors:
        return head.extend(vectors, head.probabilities(vectors, fields))

    micros = 1e6 * median([seconds(arithmetic) for _ in range(REPEATS)], 7)
    shares = f"{stamp.share_without:.2f} to {stamp.share:.2f}"
    settings = f"{stamp.alpha:g} | {stamp.strength:g}"
    both = f"{whole} | {with_head:.2f}" if stamp.fields else f"{with_head:.2f} | {'no gain' if whole else ''}"
    return f"{start} {both} | {passes} | {shares} | {settings} | {fitted:.1f} s | {micros:.0f} µs |"


class _Clocked:
    """An encoder that notes the spans of time in which it encoded queries, as the fitting of a head has it do."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder, self.spans = encoder, list[tuple[float, float]]()
        self.name, self.fingerprint = encoder.name, encoder.fingerprint
        self.dimension, self.metric = encoder.dimension, encoder.metric
        self.path = getattr(encoder, "path", None)
        self.encode_demonstrations = encoder.encode_demonstrations

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        start = time.perf_counter()
        vectors = self._encoder.encode_queries(texts)
        self.spans.append((start, time.perf_counter()))
        return vectors


def _share(retriever: Retriever, task: str, queries: list[Row], use: bool | None = None) -> float:
    """Return the share of the demonstrations of all queries that have the query's label."""
    requests = [RetrievalRequest(task=task, input=row.input, k=SHOTS, label_head=use) for row in queries]
    shown = retriever.retrieve_batch(requests)
    return float(
        np.mean([item.target == row.target for row, items in zip(queries, shown, strict=True) for item in items])
    )


if __name__ == "__main__":
    main()
