"""All attacks of ``hostile.py`` by name."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from hostile_bytes import BYTES
from hostile_client import Attack, run
from hostile_floods import FLOODS
from hostile_index import Keys
from hostile_pools import POOLS
from hostile_requests import REQUESTS

ATTACKS: Mapping[str, Attack] = {**REQUESTS, **FLOODS, **BYTES, **POOLS}


def prepare(name: str, keys: Keys) -> int:
    """Make the bytes of an attack, for ``attack`` in the same process; return how many requests there are."""
    return len(_requests(name, keys))


def attack(name: str, keys: Keys, port: int, starts: float, ends: float) -> Mapping[str, int]:
    """Attack between two times of ``time.monotonic``, from this process; return how often each status was received."""
    return run(ATTACKS[name], _requests(name, keys), port, starts, ends)


@lru_cache(maxsize=1)
def _requests(name: str, keys: Keys) -> Sequence[bytes]:
    return ATTACKS[name].requests(keys)
