"""What nobody waits for stops soon, and nothing else changes."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.udr.retrieval.conftest import note, open_pools
from udr.data import Task, copy_text
from udr.errors import StoppedError
from udr.retrieval import Retrieval, RetrievalRequest, Retriever
from udr.types import Row

WORDS = "river lake harbour island valley castle bridge forest meadow tower".split()


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Retriever]:
    pools = {
        name: [
            note(f"{n:04}", f"{WORDS[n % 10]} {WORDS[n // 10 % 10]} {n % 7}", ["glad", "sad"][n % 2])
            for n in range(count)
        ]
        for name, count in (("a", 700), ("b", 30), ("c", 40))
    }
    with open_pools(tmp_path_factory.mktemp("stopping"), pools, bm25=True) as retriever:
        yield retriever


OPTIONS: list[dict[str, Any]] = [
    {"distinct": 0.1},
    {"distinct": 0.9, "balance": True},
    {"diversity": 0.4, "candidates": 60},
    {"mode": "hybrid", "distinct": 0.5},
    {"mode": "bm25"},
    {"max_copy": 0.9},
]
REQUESTS = [RetrievalRequest(input="the river of the lake", scope="all", k=20, **options) for options in OPTIONS]


def search(retriever: Retriever, **options: Any) -> list[Retrieval]:
    plans = [retriever.plan(request) for request in REQUESTS]
    vectors = dict(enumerate(retriever.encode([plan.text for plan in plans])))
    copies = {
        n: retriever.encode([plan.copy_text], "demonstration")[0] for n, plan in enumerate(plans) if plan.copy_text
    }
    return retriever.search(plans, {n: vector for n, vector in vectors.items() if plans[n].encoded}, copies, **options)


def counted() -> tuple[Counter[int], Callable[[int], bool]]:
    """How often each plan is looked at, and a function that looks and stops none."""
    looks = Counter[int]()

    def never(number: int) -> bool:
        looks[number] += 1
        return False

    return looks, never


@pytest.mark.parametrize("stopped", range(len(REQUESTS)), ids=lambda number: str(OPTIONS[number]))
def test_a_plan_stops_wherever_it_is_and_others_do_not(opened: Retriever, stopped: int) -> None:
    expected = search(opened)
    assert all(expected)
    looks, never = counted()
    assert search(opened, stopped=never) == expected
    own = looks[stopped]
    assert own >= 3
    for last in range(1, own + 1, 1 + own // 6):
        left = last

        def stop(number: int) -> bool:
            nonlocal left
            left -= number == stopped
            return number == stopped and left <= 0

        results = search(opened, stopped=stop)
        assert len(results[stopped]) == results[stopped].copies == 0
        assert [r for n, r in enumerate(results) if n != stopped] == [r for n, r in enumerate(expected) if n != stopped]


def test_loops_look_often(opened: Retriever) -> None:
    looks, never = counted()
    search(opened, stopped=never)
    # Each block of vectors, and each choice of diversity.
    assert looks[0] > 5 and looks[2] >= 20


@pytest.mark.parametrize("options", [{}, {"distinct": 0.5}])
def test_many_copies_are_read_in_blocks_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """Of 1,600 rows that may be copies, 1,200 are; with an option, the search goes deeper three times."""
    read: list[str] = []

    def counting(task: Task, row: Row) -> str:
        read.append(row.id)
        return copy_text(task, row)

    monkeypatch.setattr("udr.retrieval.partitions.hits.copy_text", counting)
    texts = ["7 - 5", "7 / 5", "7 - 5.", "7-5"]
    rows = [note(f"{n:04}", texts[n % 4]) for n in range(1600)]
    with open_pools(tmp_path, {"a": [*rows, *(note(f"x{n}", "the river") for n in range(400))]}) as retriever:
        plan = retriever.plan(RetrievalRequest(input="7 - 5", scope="all", k=3, **options))
        vectors = {0: retriever.encode([plan.text])[0]}
        (result,) = retriever.search([plan], vectors)
        assert result.copies == 1200 and all("7 - 5" not in row.text for row in result)
        # Each text once in each of four blocks, whatever the number of rows.
        assert len(read) == 16
        looks = count()
        (stopped,) = retriever.search([plan], vectors, stopped=lambda _: next(looks) >= 2)
        assert (len(stopped), stopped.copies, len(read)) == (0, 0, 24)


def test_planning_stops_between_tasks(opened: Retriever) -> None:
    request = RetrievalRequest(input="the river", scope="all", k=3)
    looks = iter([False, False, True])
    with pytest.raises(StoppedError, match="nobody waits for this request any more"):
        opened.plan(request, stopped=lambda: next(looks))
    assert opened.plan(request, stopped=lambda: False) == opened.plan(request)


def test_hits_of_several_pools_are_the_nearest_of_all(opened: Retriever, tmp_path: Path) -> None:
    # As deep as this search goes, each pool's last hits are farther than some that another pool has left.
    pools = {
        name: [note(f"{n:03}", f"{word} {n}") for n in range(60)] for name, word in (("a", "river lake"), ("b", "moss"))
    }
    with open_pools(tmp_path, pools) as retriever:
        everything = retriever.retrieve(family="mood", input="river lake", k=120)
        for threshold in (0.3, 0.6, 0.9):
            k = len(retriever.retrieve(family="mood", input="river lake", k=100, distinct=threshold, candidates=120))
            for fewer in (1, k // 2, k):
                found = retriever.retrieve(family="mood", input="river lake", k=max(1, fewer), distinct=threshold)
                full = retriever.retrieve(
                    family="mood", input="river lake", k=max(1, fewer), distinct=threshold, candidates=120
                )
                assert found.demonstrations == full.demonstrations
        assert [d.similarity for d in everything] == sorted((d.similarity for d in everything), reverse=True)
