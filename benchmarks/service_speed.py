"""Two parts of ``service.py``: one client relative to this process; 64 clients relative to batches of 64."""

import os

from measuring import median, ratios, seconds
from service_load import Clients, Load
from service_made_up import MadeUp, request_of
from service_running import plain, serving

from udr.models import engine_of
from udr.retrieval import RetrievalRequest, Retriever

CLIENTS, BATCH = 64, 64


def one(made: MadeUp, quick: bool) -> dict[str, object]:
    """Compare the latency of one client with encoding and searching alone."""
    rounds, size = (6, 10) if quick else (40, 20)
    turns: list[tuple[float, float]] = []
    with serving(made.index) as server, Clients() as clients, opened(made) as retriever:
        for turn in range(rounds + 1):
            numbers = range(turn * size, (turn + 1) * size)
            service = clients.send(Load(server.port, numbers, clients=1)).all_ok().p50_ms
            alone = median([seconds(lambda n=n: retriever.retrieve(**request_of(n))) for n in numbers], 9)
            turns.append((service, 1000 * alone))
    # The first turn is a warm-up.
    service_ms, alone_ms = zip(*turns[1:], strict=True)
    return {
        "engine": engine_of(retriever.encoder),
        "service_p50_ms": median(service_ms, 2),
        "in_process_p50_ms": median(alone_ms, 2),
        "service_beside_in_process": _spread(service_ms, alone_ms),
    }


def many(made: MadeUp, quick: bool) -> dict[str, object]:
    """Compare the rate at 64 clients with the engine alone, and with a naive handler."""
    rounds, size, plain_size = (2, 4 * CLIENTS, CLIENTS) if quick else (7, 16 * CLIENTS, 4 * CLIENTS)
    turns: list[tuple[float, ...]] = []
    with serving(made.index) as server, plain(made.index) as rival, Clients() as clients, opened(made) as retriever:
        for turn in range(rounds + 1):
            numbers = range(turn * size, (turn + 1) * size)
            fresh = range(10**6 + turn * 20, 10**6 + turn * 20 + 20)
            service = clients.send(Load(server.port, numbers, CLIENTS)).all_ok()
            engine = _engine_rate(retriever, numbers)
            other = clients.send(Load(rival.port, numbers[:plain_size], CLIENTS)).all_ok()
            alone = [clients.send(Load(port, fresh, clients=1)).all_ok().p50_ms for port in (server.port, rival.port)]
            turns.append((service.rate, engine, other.rate, *alone))
    service_rate, engine_rate, plain_rate, service_ms, plain_ms = zip(*turns[1:], strict=True)
    return {
        "engine": engine_of(retriever.encoder),
        "service_a_second": median(service_rate, 1),
        "engine_texts_a_second": median(engine_rate, 1),
        "plain_a_second": median(plain_rate, 1),
        "service_p50_ms_at_1": median(service_ms, 2),
        "plain_p50_ms_at_1": median(plain_ms, 2),
        "rate_beside_engine": _spread(service_rate, engine_rate),
        "rate_beside_plain": _spread(service_rate, plain_rate),
        "times_as_quick_as_plain_at_1": _spread(plain_ms, service_ms),
    }


def opened(made: MadeUp) -> Retriever:
    """Open the published version in this process, with the service's engine."""
    return Retriever.open(made.index, device="cpu", engine=os.environ.get("UDR_ENGINE"))


def _engine_rate(retriever: Retriever, numbers: range) -> float:
    """Return how many texts a second the engine encodes, 64 at a time, in the order of the requests."""
    texts = [retriever.plan(RetrievalRequest(**request_of(number))).text for number in numbers]
    batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
    return len(texts) / seconds(lambda: [retriever.encoder.encode_queries(batch) for batch in batches])


def _spread(over: tuple[float, ...], under: tuple[float, ...]) -> dict[str, float]:
    """Return the median, least and largest ratio of the turns."""
    values = ratios(over, under)
    return {"median": median(values), "least": round(min(values), 3), "most": round(max(values), 3)}
