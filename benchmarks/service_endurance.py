"""Two parts of ``service.py``: more load than the service can answer, and load for a long time."""

import statistics
import time

from service_load import Clients, Load
from service_made_up import MadeUp, Words
from service_running import serving

CLIENTS = 64
TIMES, WAITING_CLIENTS = 10, 1024
"""The multiple of the sustainable load, and the clients that send it: more than fit into the queue."""

DEADLINE_SECONDS = 10.0
"""The service's default."""


def overload(made: MadeUp, quick: bool) -> dict[str, object]:
    """Measure what is answered, and how fast, at ten times the sustainable load, and the latency afterwards."""
    duration = 10 if quick else 60
    with serving(made.index) as server, Clients() as clients:
        clients.send(Load(server.port, range(CLIENTS * 4), CLIENTS))
        sustainable = clients.send(Load(server.port, range(10**6, 10**6 + CLIENTS * 8), CLIENTS)).all_ok().rate
        before = clients.send(Load(server.port, range(2 * 10**6, 2 * 10**6 + 100), clients=1)).all_ok().p50_ms
        numbers = range(3 * 10**6, 3 * 10**6 + round(TIMES * sustainable * duration))
        sent = clients.send(Load(server.port, numbers, WAITING_CLIENTS, rate=TIMES * sustainable))
        time.sleep(1)
        after = clients.send(Load(server.port, range(10**7, 10**7 + 100), clients=1)).all_ok().p50_ms
    accepted, refused = (
        [answer.seconds for answer in sent.answers if answer.status == status] for status in (200, 429)
    )
    return {
        "sustainable_a_second": round(sustainable, 1),
        "sent_a_second": round(sent.rate, 1),
        "seconds": round(sent.seconds, 1),
        "statuses": sent.statuses(),
        "answered_a_second": round(len(accepted) / sent.seconds, 1),
        "answered_after_deadline": sum(seconds > DEADLINE_SECONDS for seconds in accepted),
        "answered_seconds": _percentiles(accepted),
        "refused_seconds": _percentiles(refused),
        "p50_ms_before": round(before, 2),
        "p50_ms_after": round(after, 2),
        "after_beside_before": round(after / before, 3),
    }


def memory(made: MadeUp, quick: bool) -> dict[str, object]:
    """Measure how much the process grows over many requests of all lengths."""
    warm, count, parts = (2_000, 2_000, 4) if quick else (5_000, 50_000, 10)
    size = count // parts
    resident = []
    with serving(made.index) as server, Clients() as clients:
        for numbers in (range(warm), *(range(start, start + size) for start in range(warm, warm + count, size))):
            clients.send(Load(server.port, numbers, CLIENTS, words=Words(4, 60))).all_ok()
            resident.append(server.resident_mib)
    return {
        "requests": count,
        "resident_mib": [round(size) for size in resident],
        "grown_percent": round(100 * (resident[-1] / resident[0] - 1), 2),
    }


def _percentiles(seconds: list[float]) -> dict[str, float]:
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=100)
    return {"p50": round(cuts[49], 3), "p99": round(cuts[98], 3), "most": round(max(seconds), 3)}
