"""Attacks that filter, list and write the rows of a pool."""

from collections.abc import Mapping
from urllib.parse import quote

from hostile_client import Attack, head, post
from hostile_index import LONG, MANY, Keys
from hostile_requests import texts_by_batch
from service_made_up import Words, sentence


def _filters(keys: Keys) -> list[bytes]:
    """Batches of filters that all differ: 64 conditions, and 64 of a thousand ids each."""
    many = [{"key": "$id", "any": [f"{n:06}" for n in range(turn, turn + 1024)]} for turn in range(64)]
    single = [{"key": "$id", "range": {"gte": f"{n:06}"}} for n in range(64)]
    return [
        batch
        for number in range(4)
        for wanted in (single[number:], many[number : number + 8])
        for batch in texts_by_batch(
            keys, 1, lambda seed: sentence(seed, Words(3, 3)), size=4, task=MANY, filter={"should": wanted}
        )
    ]


def _lists(keys: Keys) -> list[bytes]:
    wanted = [f'$target = "{target}" and $id >= "{n:06}"' for target in ("nature", "no such") for n in range(8)]
    paths = [f"/v1/tasks/{task}/demonstrations?limit=1000&filter=" for task in (LONG, MANY)]
    return [head("GET", path + quote(text), keys.hostile) for path in paths for text in wanted]


def _writes(keys: Keys) -> list[bytes]:
    """Batches of long rows, one of them as large as a body can be; they replace one another."""
    rows = [
        [
            {"id": f"{n:06}", "input": {"text": sentence(f"{turn} {n}", Words(5_000, 5_000))}, "target": "nature"}
            for n in range(size)
        ]
        for turn, size in enumerate((48, 4, 4, 4))
    ]
    path = f"/v1/tasks/{LONG}/demonstrations:batch"
    deletion = {"filter": '$target = "no such" or $id = "none"'}
    return [*(post(path, {"put": some}, keys.hostile) for some in rows), post(path, deletion, keys.hostile)]


POOLS: Mapping[str, Attack] = {
    "filters": Attack(about="batches with filters of 64 conditions, and of thousands of ids", requests=_filters),
    "lists": Attack(about="pages of 1,000 rows, with filters of which many pass none", requests=_lists),
    "writes": Attack(about="batches of 4 and 48 rows of 30 KB, and deletions by a filter", requests=_writes, clients=4),
}
