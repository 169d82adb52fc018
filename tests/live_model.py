"""A live pool beside the plain model of it: dictionaries of rows."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.fakes import NOTES, HashEncoder, write_task
from tests.index.builds import WORDS
from udr import Filter, Retriever, Row
from udr.retrieval import RetrievalRequest
from udr.types import Json
from udr_index.build import BuildConfig, build

Pools = dict[str, dict[str, Row]]
"""Rows by id, by task."""

FILTERS = [
    None,
    'site = "imdb"',
    'site = "imdb" and stars >= 3',
    'tags in ["red", "green"] or stars < 2',
    "n < 20",
    '$target = "sad" and n >= 10',
    '$id in ["n003", "n004", "d005", "x"]',
]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"mode": "bm25"},
    {"mode": "hybrid"},
    {"balance": True, "k": 7},
    {"diversity": 0.4},
    {"distinct": 0.95, "keep_copies": True},
    {"exclude": ["n000", "n001", "d000"], "explain": True},
    {"max_copy": 0.9, "max_similarity": 0.8},
    {"coverage": 0.6},
]


def random_row(draw: random.Random, id: str, n: int) -> Row:
    """Return a row with metadata of all kinds; many rows have the same text."""
    metadata: dict[str, Json] = {"site": draw.choice(["imdb", "yelp", "shop"]), "n": n}
    if draw.random() < 0.7:
        metadata["stars"] = draw.choice([1, 2, 3, 4.5, 5])
    if draw.random() < 0.5:
        metadata["tags"] = draw.sample(["red", "blue", "green"], draw.randrange(3))
    text = " ".join(draw.choices(WORDS[:6], k=3))
    return Row(id=id, input={"text": text}, target=draw.choice(["glad", "sad"]), metadata=metadata)


def random_pools(draw: random.Random, sizes: Mapping[str, int]) -> Pools:
    return {
        task: {id: random_row(draw, id, n) for n in range(size) for id in [f"{task[0]}{n:03}"]}
        for task, size in sizes.items()
    }


def build_pools(tasks: Path, out: Path, pools: Pools, **options: Any) -> str:
    """Build an index of these rows; tasks without rows are left out. Return its version."""
    left = {task: rows for task, rows in pools.items() if rows}
    for task, rows in left.items():
        write_task(tasks, {**NOTES, "name": task}, train=[row.to_json() for row in rows.values()])
    config = BuildConfig(tasks=tasks, out=out, names=tuple(left), bm25=True, **{"label_head": False, **options})
    return build(config, HashEncoder()).version


Compare = Callable[[Retriever, Pools, random.Random], None]


def comparing(folder: Path) -> Compare:
    """Return a function that compares a retriever's answers with those of a new index of only a model's rows."""
    number = 0

    def check(retriever: Retriever, pools: Pools, draw: random.Random) -> None:
        nonlocal number
        number += 1
        assert dict(retriever.sizes) == {task: len(rows) for task, rows in pools.items()}
        if not any(pools.values()):
            assert not retriever.retrieve(None, "the river", scope="all")
            return
        for text in draw.sample(FILTERS, 2):
            wanted = None if text is None else Filter.of(text)
            left: Pools = {
                task: {id: row for id, row in rows.items() if wanted is None or wanted.matches(task, row)}
                for task, rows in pools.items()
            }
            size = sum(map(len, left.values()))
            query = " ".join(draw.choices(WORDS[:6], k=3))
            asked = [{"k": 9, **options} for options in draw.sample(OPTIONS, 4)]
            asked = [{**options, "k": min(options["k"], max(1, size))} for options in asked]
            requests = [RetrievalRequest(input=query, scope="all", filter=text, **options) for options in asked]
            if not size:
                assert not any(retriever.retrieve_batch(requests))
                continue
            fresh_folder = folder / f"fresh{number}-{FILTERS.index(text)}"
            build_pools(fresh_folder / "tasks", fresh_folder / "index", left)
            with Retriever.open(fresh_folder / "index", encoder=HashEncoder()) as fresh:
                plain = [RetrievalRequest(input=query, scope="all", **options) for options in asked]
                for request, found, expected in zip(
                    requests, retriever.retrieve_batch(requests), fresh.retrieve_batch(plain), strict=True
                ):
                    assert found.demonstrations == expected.demonstrations, request
                    assert (found.copies, found.decisions) == (expected.copies, expected.decisions), request

    return check


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
