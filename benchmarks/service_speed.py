"""Two parts of ``service.py``: one client, beside the same work in this process; 64 clients, beside batches of 64."""

import os
import statistics
import time
from collections.abc import Sequence

from service_load import Clients, Load
from service_made_up import MadeUp, asked
from service_running import plain, serving

from udr.models import DEFAULT_ENCODER, engine_of, load_encoder
from udr.retrieval import RetrievalRequest, Retriever

CLIENTS, BATCH = 64, 64


def one(made: MadeUp, quick: bool) -> dict[str, object]:
    """How much longer one client waits than encoding and searching take alone."""
    rounds, size = (6, 10) if quick else (40, 20)
    turns: list[tuple[float, float]] = []
    with serving(made.index) as server, Clients() as clients, opened(made) as retriever:
        for turn in range(rounds + 1):
            numbers = range(turn * size, (turn + 1) * size)
            through = clients.send(Load(server.port, numbers, clients=1)).whole().p50_ms
            turns.append((through, _in_process_p50_ms(retriever, numbers)))
    # The first turn warms up.
    through_ms, alone_ms = zip(*turns[1:], strict=True)
    return {
        "engine": engine_of(retriever.encoder),
        "service_p50_ms": round(statistics.median(through_ms), 2),
        "in_process_p50_ms": round(statistics.median(alone_ms), 2),
        "service_beside_in_process": _ratios(through_ms, alone_ms),
    }


def many(made: MadeUp, quick: bool) -> dict[str, object]:
    """The rate at 64 clients, beside the engine's alone and that of the handler that anybody would write first."""
    rounds, size, plain_size = (2, 4 * CLIENTS, CLIENTS) if quick else (7, 16 * CLIENTS, 4 * CLIENTS)
    turns: list[tuple[float, ...]] = []
    with serving(made.index) as server, plain(made.index) as rival, Clients() as clients, opened(made) as retriever:
        for turn in range(rounds + 1):
            numbers = range(turn * size, (turn + 1) * size)
            fresh = range(10**6 + turn * 20, 10**6 + turn * 20 + 20)
            service = clients.send(Load(server.port, numbers, CLIENTS)).whole()
            engine = _engine_rate(retriever, numbers)
            other = clients.send(Load(rival.port, numbers[:plain_size], CLIENTS)).whole()
            alone = [clients.send(Load(port, fresh, clients=1)).whole().p50_ms for port in (server.port, rival.port)]
            turns.append((service.rate, engine, other.rate, *alone))
    service_rate, engine_rate, plain_rate, service_ms, plain_ms = zip(*turns[1:], strict=True)
    return {
        "engine": engine_of(retriever.encoder),
        "service_a_second": round(statistics.median(service_rate), 1),
        "engine_texts_a_second": round(statistics.median(engine_rate), 1),
        "plain_a_second": round(statistics.median(plain_rate), 1),
        "service_p50_ms_at_1": round(statistics.median(service_ms), 2),
        "plain_p50_ms_at_1": round(statistics.median(plain_ms), 2),
        "rate_beside_engine": _ratios(service_rate, engine_rate),
        "rate_beside_plain": _ratios(service_rate, plain_rate),
        "times_as_quick_as_plain_at_1": _ratios(plain_ms, service_ms),
    }


def opened(made: MadeUp) -> Retriever:
    """Return the published version, opened in this process with the engine that the service takes."""
    return Retriever.open(made.index, encoder=load_encoder(DEFAULT_ENCODER, "cpu", os.environ.get("UDR_ENGINE")))


def _in_process_p50_ms(retriever: Retriever, numbers: range) -> float:
    taken = []
    for number in numbers:
        request = asked(number)
        started = time.perf_counter()
        retriever.retrieve(**request)
        taken.append(time.perf_counter() - started)
    return 1000 * statistics.median(taken)


def _engine_rate(retriever: Retriever, numbers: range) -> float:
    """Return how many texts a second the engine encodes, in the order of the requests, 64 at a time."""
    texts = [retriever.plan(RetrievalRequest(**asked(number))).text for number in numbers]
    started = time.perf_counter()
    for place in range(0, len(texts), BATCH):
        retriever.encoder.encode_queries(texts[place : place + BATCH])
    return len(texts) / (time.perf_counter() - started)


def _ratios(over: Sequence[float], under: Sequence[float]) -> dict[str, float]:
    """Return the median of the turns' ratios, the least and the most."""
    ratios = [one / other for one, other in zip(over, under, strict=True)]
    named = {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
    return {name: round(value, 3) for name, value in named.items()}
