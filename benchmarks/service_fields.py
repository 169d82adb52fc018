"""A part of ``service.py``: what a label head costs that reads two fields of a query apart."""

import json
import random
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from measuring import median, ratios, seconds
from service_load import Clients, Load
from service_made_up import HUNDRED, MadeUp, Words, sentence
from service_running import Server, serving
from service_speed import BATCH, CLIENTS, opened

from udr.retrieval import RetrievalRequest, Retriever
from udr.store import open_version
from udr_index.build import BuildConfig, build

TASK, K, ROWS, QUICK_ROWS = "pairs", 8, 2_000, 400

_TASK = """
name = "pairs"
family = "made_up"
kind = "classification"
instruction = "Say whether both are about the same."
input = "First: {first}\\nSecond: {second}"
output = "About: {target}"
metric = "accuracy"
labels = ["same", "other"]
"""
_SHARED = Words(6, 6)
_LOOKUPS = re.compile(r'^udr_query_cache_total\{result="(hit|duplicate|miss)"\} ([\d.e+]+)$', re.MULTILINE)


def fields(made: MadeUp, quick: bool) -> dict[str, object]:
    """Compare requests that rank by such a head with the same requests without it, by 64 clients and by one."""
    index = _index(made.index.with_name("pairs"), QUICK_ROWS if quick else ROWS)
    rounds, size, few = (2, 4 * CLIENTS, 10) if quick else (7, 8 * CLIENTS, 40)
    turns: list[tuple[float, ...]] = []
    # Three passes for each of 64 clients at once may take longer than the default deadline on a busy machine.
    with (
        serving(index, UDR_TIMEOUT_SECONDS="60") as server,
        Clients() as clients,
        opened(MadeUp(index, made.versions, made.rows)) as retriever,
    ):
        before, sent = _lookups(server), 0
        for turn in range(rounds + 1):
            # No request is sent twice, so each text of it is encoded.
            starts = [2 * turn * (size + few), (2 * turn + 1) * (size + few)]
            answers = [
                clients.send(Load(server.port, numbers, together, request=partial(request_of, head=head))).all_ok()
                for start, head in zip(starts, (True, False), strict=True)
                for numbers, together in (
                    (range(start, start + size), CLIENTS),
                    (range(start + size, start + size + few), 1),
                )
            ]
            sent += sum(len(answer.answers) for answer in answers[:2])
            engine = _engine_rate(retriever, range(starts[0], starts[0] + size))
            turns.append((answers[0].rate, answers[2].rate, answers[1].p50_ms, answers[3].p50_ms, engine))
        looked_up = _lookups(server) - before - sent
        passes = server.get("/v1/info")["tasks"][0]["encoder_passes"]
    # The first turn is a warm-up.
    with_head, without, head_ms, plain_ms, engine = zip(*turns[1:], strict=True)
    return {
        "encoder_passes": passes,
        "encoder_passes_counted": round(looked_up / sent, 2),
        "with_fields_a_second": median(with_head, 1),
        "without_head_a_second": median(without, 1),
        "rate_beside_without": median(ratios(with_head, without)),
        "texts_beside_engine": median(ratios([passes * rate for rate in with_head], engine)),
        "with_fields_p50_ms_at_1": median(head_ms, 2),
        "without_head_p50_ms_at_1": median(plain_ms, 2),
    }


def request_of(number: int, words: Words = HUNDRED, *, head: bool) -> Mapping[str, object]:
    """Return request ``number``; ``head`` says whether a label head ranks."""
    input, _ = _pair(f"query {number}", words)
    return {"task": TASK, "input": input, "k": K, "label_head": head}


def _pair(seed: str, words: Words = HUNDRED) -> tuple[dict[str, str], str]:
    """Return the fields and the label of a seed: the second has six words of the first, or others."""
    draw, first = random.Random(seed), sentence(seed, words)
    same = draw.random() < 0.5
    second = " ".join(draw.sample(first.split(), _SHARED.least)) if same else sentence(f"{seed} other", _SHARED)
    return {"first": f"{first} {seed}", "second": second}, "same" if same else "other"


def _index(folder: Path, rows: int) -> Path:
    """Return the index of the task, built below a folder; its head must read the fields apart."""
    task, index = folder / "tasks" / TASK, folder / "index"
    task.mkdir(parents=True, exist_ok=True)
    (task / "task.toml").write_text(_TASK, "utf-8")
    with (task / "train.jsonl").open("w", encoding="utf-8") as lines:
        for number in range(rows):
            input, target = _pair(f"row {number}")
            lines.write(f"{json.dumps({'id': f'{number:05}', 'input': input, 'target': target})}\n")
    build(BuildConfig(tasks=folder / "tasks", out=index, device="cpu"))
    head = open_version(index).manifest.partitions[TASK].label_head
    if head is None or not head.fields:
        raise RuntimeError("the label head of the made-up task should read its fields apart; give it more rows")
    return index


def _engine_rate(retriever: Retriever, numbers: range) -> float:
    """Return how many texts a second the engine encodes of requests with a head, 64 at a time."""
    requests = (RetrievalRequest(**request_of(number, head=True)) for number in numbers)  # type: ignore[arg-type]
    texts = [text for request in requests for text in retriever.plan(request).query_texts]
    batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
    return len(texts) / seconds(lambda: [retriever.encoder.encode_queries(batch) for batch in batches])


def _lookups(server: Server) -> float:
    """Return how many texts of queries the service has looked up in its cache: those that it encoded, or knew."""
    return sum(float(count) for _, count in _LOOKUPS.findall(server.text("/metrics")))
