"""``udr serve --device cuda`` under load, beside the engine alone, and its answers beside the CPU's.

    python benchmarks/gpu/card_serving.py --out FOLDER

The index is that of ``benchmarks/service.py``: 10,000 made-up rows in four tasks. One client, then 64, then 256; the
rates are beside the encoder's own in batches of 64 in this process. 512 answers are compared with those of a Retriever
on the CPU: the ids should be equal, but for rows whose similarities differ by the last digit.
"""

import argparse
from collections.abc import Sequence

from card import part
from measuring import median, seconds
from service_load import Clients, Load
from service_made_up import made_up, request_of
from service_running import serving

from udr.models import BASE_ENCODER, engine_of, load_encoder
from udr.retrieval import RetrievalRequest, Retriever

ROWS, TURNS, BATCH, CLIENTS, COMPARED = 10_000, 5, 64, (1, 64, 256), 512


def main(given: Sequence[str] | None = None) -> None:
    part("serving", __doc__, measure, given)


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    rows, turns, compared = (400, 1, 16) if arguments.quick else (ROWS, TURNS, COMPARED)
    made = made_up(arguments.out / f"service-{rows}", rows)
    encoder = load_encoder(BASE_ENCODER, arguments.device)
    result: dict[str, object] = {"engine": engine_of(encoder)}
    with serving(made.index, device=arguments.device) as server, Clients() as clients:
        result["cold_seconds"] = round(server.cold_seconds, 1)
        start = 0
        for together in CLIENTS[:1] if arguments.quick else CLIENTS:
            size, rates, milliseconds = max(16, 16 * together) if not arguments.quick else 8, [], []
            for _ in range(turns + 1):
                sent = clients.send(Load(server.port, range(start, start + size), together)).all_ok()
                start += size
                rates.append(sent.rate)
                milliseconds.append(sent.p50_ms)
            # The first turn is a warm-up.
            result[f"{together} clients"] = {"a_second": median(rates[1:], 1), "p50_ms": median(milliseconds[1:], 2)}
        numbers = range(10**6, 10**6 + compared)
        answers = clients.send(Load(server.port, numbers, min(64, compared), keep=True)).all_ok().answers
    with Retriever.open(made.index, device="cpu") as retriever:
        expected = retriever.retrieve_batch([RetrievalRequest(**request_of(number)) for number in numbers])  # type: ignore[arg-type]
        texts = [retriever.plan(RetrievalRequest(**request_of(n))).text for n in range(turns * 10 * BATCH)]  # type: ignore[arg-type]
    shown = [[item["id"] for item in answer.read()["demonstrations"]] for answer in answers]
    result["equal_ids"] = (
        sum(ids == [item.id for item in own] for ids, own in zip(shown, expected, strict=True)) / compared
    )
    batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
    encoder.encode_queries(batches[0])
    result["engine_texts_a_second"] = round(len(texts) / seconds(lambda: list(map(encoder.encode_queries, batches))), 1)
    return result


if __name__ == "__main__":
    main()
