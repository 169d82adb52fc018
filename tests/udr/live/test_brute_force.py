"""A random sequence of writes, published versions and requests, compared with new indexes of the same rows."""

import random
from pathlib import Path

import pytest

from tests.fakes import HashEncoder
from tests.udr.live.conftest import Compare, Pools, build_pools, random_pools, random_row
from udr import Filter, Retriever
from udr.store import publish
from udr.types import Row

SIZES = {"notes": 60, "diary": 20}


class Model:
    """The rows of each version, and all writes since the first."""

    def __init__(self) -> None:
        self.versions: dict[str, Pools] = {}
        self.writes: dict[str, dict[str, Row | None]] = {task: {} for task in SIZES}

    def pools(self, version: str) -> Pools:
        """Return the rows that a version shows: its own, with every write by id."""
        return {
            task: {id: row for id, row in {**rows, **self.writes[task]}.items() if row is not None}
            for task, rows in self.versions[version].items()
        }


def step(draw: random.Random, retriever: Retriever, model: Model) -> None:
    """Write something at random."""
    task = draw.choice(list(SIZES))
    pool, writes = model.pools(retriever.index_version)[task], model.writes[task]
    match draw.randrange(5):
        case 0 | 1:
            rows = [random_row(draw, f"{task[0]}{draw.randrange(90):03}", draw.randrange(90)) for _ in range(3)]
            distinct = list({row.id: row for row in rows}.values())
            outcome = retriever.put(task, distinct)
            assert set(outcome.created) == {row.id for row in distinct} - pool.keys()
            assert set(outcome.replaced) == {row.id for row in distinct} & pool.keys()
            writes |= {row.id: row for row in distinct}
        case 2:
            row = random_row(draw, f"{task[0]}{draw.randrange(90):03}", draw.randrange(90))
            assert len(retriever.put(task, row.to_json()).created) == (row.id not in pool)
            writes[row.id] = row
        case 3:
            ids = [f"{task[0]}{draw.randrange(90):03}" for _ in range(6)]
            outcome = retriever.delete(task, ids)
            assert set(outcome.deleted) == set(ids) & pool.keys()
            writes |= dict.fromkeys(outcome.deleted)
        case _:
            wanted = draw.choice(['site = "shop" and stars > 3', "n < 4", '$target = "sad" and n > 70'])
            outcome = retriever.delete(task, filter=wanted)
            assert set(outcome.deleted) == {id for id, row in pool.items() if Filter.of(wanted).matches(task, row)}
            writes |= dict.fromkeys(outcome.deleted)


@pytest.mark.parametrize("kind", ["flat", "IVF2,Flat"])
@pytest.mark.parametrize("seed", range(2))
def test_a_live_pool_answers_as_a_new_index_of_its_rows(kind: str, seed: int, tmp_path: Path, compare: Compare) -> None:
    draw, model, out = random.Random(seed), Model(), tmp_path / "index"
    for number in range(2):
        pools = random_pools(draw, SIZES)
        model.versions[build_pools(tmp_path / f"tasks{number}", out, pools, kind=kind)] = pools
    for _ in range(3):
        publish(out, draw.choice(list(model.versions)))
        with Retriever.open(out, encoder=HashEncoder()) as retriever:
            compare(retriever, model.pools(retriever.index_version), draw)
            with Retriever.open(out, encoder=HashEncoder()) as follower:
                for _ in range(3):
                    for _ in range(draw.randrange(4)):
                        step(draw, retriever, model)
                    each = draw.choice([retriever, follower])
                    compare(each, model.pools(each.index_version), draw)
