"""A part of ``hostile.py``: what a thousand idle connections cost the others."""

import multiprocessing
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from hostile_attacks import ATTACKS, attack
from hostile_index import Attacked, Keys
from measuring import median
from service_load import Clients, Load

CLIENTS, PAIRS = 64, 5
_OPENING_SECONDS = 3.0


def idle_rate(index: Path, variables: Mapping[str, str], folder: Path, seconds: float) -> dict[str, object]:
    """Measure the rate of honest clients beside idle connections, relative to that without them."""
    start, rates = 0, {"without": list[float](), "with": list[float]()}
    spawn = multiprocessing.get_context("spawn")
    with (
        Attacked(index, None, variables).serving(folder / "idle-rate.log", None) as server,
        Clients() as clients,
        ProcessPoolExecutor(1, spawn) as attacker,
    ):

        def rate(count: int) -> float:
            nonlocal start
            start += count
            return clients.send(Load(server.port, range(start - count, start), CLIENTS)).all_ok().rate

        rate(CLIENTS * 4)
        count = round(rate(CLIENTS * 8) * seconds)
        for turn in range(2 * PAIRS):
            # Which of the two is first alternates, too.
            side = ("without", "with")[(turn + turn // 2) % 2]
            if side == "with":
                now = time.monotonic()
                idle = attacker.submit(attack, "idle", Keys(), server.port, now, now + _OPENING_SECONDS + 1.3 * seconds)
                time.sleep(_OPENING_SECONDS)
            rates[side].append(rate(count))
            if side == "with":
                idle.result()
    ratios = [with_ / without for with_, without in zip(rates["with"], rates["without"], strict=True)]
    return {
        "connections": ATTACKS["idle"].clients,
        "rates": {side: [round(rate, 1) for rate in found] for side, found in rates.items()},
        "ratios": [round(ratio, 3) for ratio in ratios],
        "with_beside_without": median(ratios),
        "target": 0.93,
    }
