"""``udr serve --device cuda`` under load, beside the engine alone, and its answers beside the CPU's.

    python benchmarks/gpu/card_serving.py --out FOLDER

The index is that of ``benchmarks/service.py``, built on the card: 10,000 made-up rows in four tasks. One client, then
64, then 256; the rates are beside the encoder's own in batches of 64 in this process. ``overlap`` is the share of the
demonstrations in 512 answers that a Retriever on the CPU returns, too: less than 1, since queries are encoded in
float16 on the card, and in float32 on the CPU.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from card import part
from measuring import median, seconds
from service_load import Clients, Load, Sent
from service_made_up import made_up, request_of
from service_running import serving

from udr.models import BASE_ENCODER, engine_of, load_encoder
from udr.retrieval import RetrievalRequest, Retriever

ROWS, TURNS, BATCH, CLIENTS, COMPARED = 10_000, 5, 64, (1, 64, 256), 512


def main(given: Sequence[str] | None = None) -> None:
    part("serving", __doc__, measure, given)


def measure(arguments: argparse.Namespace) -> Iterator[tuple[str, Callable[[], object]]]:
    rows, turns, compared = (400, 1, 16) if arguments.quick else (ROWS, TURNS, COMPARED)
    made = made_up(arguments.out / f"service-{rows}", rows, versions=1, device=arguments.device)
    encoder = load_encoder(BASE_ENCODER, arguments.device)
    yield "engine", lambda: engine_of(encoder)
    with serving(made.index, device=arguments.device) as server, Clients() as clients:
        yield "cold_seconds", lambda: round(server.cold_seconds, 1)
        start = 0
        for together in CLIENTS[:1] if arguments.quick else CLIENTS:
            size = 8 if arguments.quick else max(16, 16 * together)
            loads = [
                Load(server.port, range(start + turn * size, start + (turn + 1) * size), together)
                for turn in range(turns + 1)
            ]
            yield f"{together} clients", partial(_rates, clients, loads)
            start += size * len(loads)
        numbers = range(10**6, 10**6 + compared)
        answers = clients.send(Load(server.port, numbers, min(64, compared), keep=True))
    with Retriever.open(made.index, device="cpu") as retriever:
        yield "overlap", partial(_overlap, retriever, answers)
        texts = [retriever.plan(RetrievalRequest(**request_of(n))).text for n in range(turns * 10 * BATCH)]  # type: ignore[arg-type]
    batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
    encoder.encode_queries(batches[0])
    yield (
        "engine_texts_a_second",
        lambda: round(len(texts) / seconds(lambda: list(map(encoder.encode_queries, batches))), 1),
    )


def _rates(clients: Clients, loads: Sequence[Load]) -> dict[str, float]:
    sent = [clients.send(load).all_ok() for load in loads]
    # The first turn is a warm-up.
    rates, milliseconds = [turn.rate for turn in sent[1:]], [turn.p50_ms for turn in sent[1:]]
    return {"a_second": median(rates, 1), "p50_ms": median(milliseconds, 2)}


def _overlap(retriever: Retriever, sent: Sent) -> float:
    shown = [{item["id"] for item in answer.read()["demonstrations"]} for answer in sent.all_ok().answers]
    requests = [RetrievalRequest(**request_of(answer.number)) for answer in sent.answers]  # type: ignore[arg-type]
    expected = [{item.id for item in own} for own in retriever.retrieve_batch(requests)]
    shared = sum(len(ids & own) for ids, own in zip(shown, expected, strict=True))
    return round(shared / sum(map(len, expected)), 4)


if __name__ == "__main__":
    main()
