"""Retrieval with filters, compared with retrieval from an index of only the rows that pass."""

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.index.builds import WORDS
from tests.udr.retrieval.conftest import OpenPools, note, open_pools
from udr import Filter, Retriever, Row
from udr.errors import InvalidInputError
from udr.retrieval import RetrievalRequest
from udr.types import Json


def pool(prefix: str, count: int, seed: int) -> list[Mapping[str, Json]]:
    """Return rows with metadata of all kinds; some rows are copies, and some metadata is absent."""
    draw, rows = random.Random(seed), list[Mapping[str, Json]]()
    for number in range(count):
        metadata: dict[str, Json] = {"site": draw.choice(["imdb", "yelp", "shop"]), "n": number}
        if draw.random() < 0.7:
            metadata["stars"] = draw.choice([1, 2, 3, 4.5, 5])
        if draw.random() < 0.5:
            metadata["tags"] = draw.sample(["red", "blue", "green"], draw.randrange(3))
        text = " ".join(draw.choices(WORDS, k=4))
        rows.append({**note(f"{prefix}{number:03}", text, draw.choice(["glad", "sad"])), "metadata": metadata})
    return rows


POOLS = {"notes": pool("n", 260, 0), "diary": pool("d", 90, 1)}
FILTERS = [
    'site = "imdb"',
    'site = "imdb" and stars >= 3',
    'tags in ["red", "green"] or stars < 2',
    'not tags exists and site != "yelp"',
    "n < 6",
    "n < 200",
    "n = 17 or n = 41",
    "n < 0",
    '$target = "sad" and n >= 10',
    '$task = "diary"',
    '$id in ["n003", "d004", "d005", "x"]',
    'unknown = "x"',
    'unknown != "x"',
]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"mode": "bm25"},
    {"mode": "hybrid"},
    {"balance": True, "k": 7},
    {"diversity": 0.4},
    {"distinct": 0.95, "keep_copies": True},
    {"mode": "hybrid", "balance": True},
    {"mode": "hybrid", "weight": 0.2},
    {"exclude": ["n000", "n001", "d000"], "explain": True},
    {"max_copy": 0.9, "max_similarity": 0.8, "explain": True},
    {"coverage": 0.6, "explain": True},
    {"coverage": 0.5, "diversity": 0.3, "balance": True},
]


def restricted(wanted: Filter) -> dict[str, list[Mapping[str, Json]]]:
    def row(keys: Mapping[str, Any]) -> Row:
        return Row(id=keys["id"], input=keys["input"], target=keys["target"], metadata=keys["metadata"])

    return {task: [keys for keys in rows if wanted.matches(task, row(keys))] for task, rows in POOLS.items()}


@pytest.fixture(scope="module", params=["flat", "IVF4,Flat"])
def everything(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    options = {"bm25": True, "kind": request.param, "label_head": False}
    return open_pools(tmp_path_factory.mktemp("all"), POOLS, **options)


@pytest.mark.parametrize("text", FILTERS)
def test_results_are_those_of_an_index_of_only_the_rows_that_pass(
    everything: Retriever, text: str, tmp_path: Path
) -> None:
    left = {task: rows for task, rows in restricted(Filter.of(text)).items() if rows}
    queries = [str(rows[0]["input"]["text"]) for rows in POOLS.values()]  # type: ignore[index, call-overload]
    requests = [
        RetrievalRequest(**{"input": query, "scope": "all", "k": 9, **options})
        for query in (*queries, "the river at the castle", "nothing")
        for options in OPTIONS
    ]
    found = everything.retrieve_batch([replace(request, filter=text) for request in requests])
    if not left:
        assert not any(found) and not any(retrieval.copies for retrieval in found)
        return
    size = sum(map(len, left.values()))
    only = open_pools(tmp_path, left, bm25=True, label_head=False)
    # A whole index refuses a k above its size; with a filter, what there is comes back.
    capped = [replace(request, k=min(request.k, size)) for request in requests]
    for request, retrieval, expected in zip(requests, found, only.retrieve_batch(capped), strict=True):
        shown = retrieval.demonstrations, retrieval.copies
        assert shown == (expected.demonstrations, expected.copies), request
        if size >= request.k:
            assert retrieval.decisions == expected.decisions


def test_one_request_and_a_batch_of_different_filters_agree(everything: Retriever) -> None:
    requests = [RetrievalRequest(task="notes", input="the river", k=5, filter=text) for text in FILTERS]
    alone = [everything.retrieve("notes", "the river", 5, filter=Filter.of(text)) for text in FILTERS]
    as_json = [replace(request, filter=Filter.of(str(request.filter)).to_json()) for request in requests]
    assert everything.retrieve_batch(requests) == alone == everything.retrieve_batch(as_json)


def test_a_filter_on_values_of_another_kind_is_refused(everything: Retriever) -> None:
    for text, message in {
        "site > 3": "the filter compares 'site' with a number, but the rows have a text there",
        'stars = "3"': "the filter compares 'stars' with a text, but the rows have a number there",
        "$id = 3": "the filter compares '\\$id' with a number, but the rows have a text there; compare it with a text$",
        "$task = true": "the filter compares '\\$task' with a boolean",
        "site =": "the filter, at character 7: expected a value",
    }.items():
        with pytest.raises(InvalidInputError, match=message):
            everything.retrieve("notes", "the river", filter=text)
    with pytest.raises(InvalidInputError, match="request 2: a filter must be an object"):
        everything.retrieve_batch(
            [RetrievalRequest(task="notes", input="a"), RetrievalRequest(task="notes", input="a", filter=3)]  # type: ignore[arg-type]
        )


def test_true_is_no_one(pools: OpenPools) -> None:
    rows = [{**note(id, f"a {id}"), "metadata": {"v": value}} for id, value in {"x": True, "y": 1, "z": "1"}.items()]
    retriever = pools({"notes": rows})
    for text, expected in {"v = 1": "y", "v = true": "x", 'v = "1"': "z", "v in [true, 1]": "xy"}.items():
        found = retriever.retrieve("notes", "b", filter=text)
        assert "".join(sorted(item.id for item in found)) == expected


def test_a_label_head_ranks_the_rows_that_pass(tmp_path: Path) -> None:
    retriever = open_pools(tmp_path, {"notes": POOLS["notes"]}, label_head=True)
    every = retriever.retrieve("notes", "the river", 260, keep_copies=True)
    some = retriever.retrieve("notes", "the river", 12, keep_copies=True, filter="n >= 100")
    assert all(item.ranking_score is not None for item in some)
    expected = [item for item in every if int(str(item.metadata["n"])) >= 100][:12]
    assert [replace(item, rank=1) for item in some] == [replace(item, rank=1) for item in expected]


@pytest.mark.parametrize("options", [{"coverage": 0.5}, {"mode": "bm25"}, {"mode": "hybrid"}])
def test_the_rows_that_pass_may_have_no_words(pools: OpenPools, options: dict[str, Any]) -> None:
    rows = [{**note(id, text), "metadata": {"n": n}} for n, (id, text) in enumerate({"x": "?!", "y": "a b"}.items())]
    found = pools({"notes": rows}, bm25=True).retrieve("notes", "a", filter="n = 0", **options)
    assert [item.id for item in found] == ([] if options.get("mode") == "bm25" else ["x"])


def test_a_filter_costs_more(everything: Retriever) -> None:
    plain, filtered = (
        everything.plan(RetrievalRequest(task="notes", input="a", filter=text)) for text in (None, "n < 40")
    )
    assert filtered.cost > plain.cost and filtered.size == 40 and plain.size == 260
