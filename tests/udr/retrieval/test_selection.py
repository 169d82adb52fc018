"""Selection against brute force: bounds, near copies, diversity, balance, each alone and all together."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.fakes import NOTES, HashEncoder, write_task
from udr.data import encoder_demonstration, open_collection, row_query
from udr.errors import InvalidInputError
from udr.retrieval import Labels, RetrievalRequest, Retriever, choose, rounds, select
from udr.search import Hit
from udr.types import Row
from udr_index.build import BuildConfig, build

ASKED = RetrievalRequest(input="", k=3)


def hits(*similarities: float) -> list[Hit]:
    """Hits with these similarities, in descending order, of ids a, b, c, ..."""
    return [Hit("t", place, chr(97 + place), value) for place, value in enumerate(similarities)]


def ids(found: Sequence[Hit], request: RetrievalRequest, **more: Any) -> list[str]:
    selected = select(found, request, **{"candidates": len(found), **more})
    return [found[one.place].id for one in selected.chosen]


def test_bounds_hold_at_both_ends_and_as_shown() -> None:
    found = hits(0.900004, 0.9, 0.8, 0.7, 0.699996, 0.6)

    assert ids(found, replace(ASKED, k=9, max_similarity=0.9, min_similarity=0.7)) == ["a", "b", "c", "d", "e"]
    assert ids(found, replace(ASKED, k=9, max_similarity=0.89, min_similarity=0.71)) == ["c"]
    assert ids(found, replace(ASKED, k=9, min_similarity=0.95)) == []


def test_of_near_copies_the_best_is_kept_and_k_stays_full() -> None:
    vectors = np.array([[1.0, 0], [2, 0.02], [0, 1], [0.01, 3], [1, 1]])

    assert ids(hits(0.9, 0.8, 0.7, 0.6, 0.5), replace(ASKED, distinct=0.999), vectors=vectors) == ["a", "c", "e"]
    assert ids(hits(0.9, 0.8, 0.7, 0.6, 0.5), replace(ASKED, distinct=0.7), vectors=vectors) == ["a", "c"]
    assert ids(hits(0.9, 0.8, 0.7, 0.6, 0.5), ASKED, vectors=vectors) == ["a", "b", "c"]


def test_a_vector_without_length_is_like_no_other() -> None:
    assert ids(hits(0.2, 0.1), replace(ASKED, distinct=0.5), vectors=np.zeros((2, 3))) == ["a", "b"]


def by_definition(
    similarities: NDArray[np.float64], vectors: NDArray[np.float64], k: int, diversity: float
) -> list[int]:
    """Maximal marginal relevance by its definition."""
    chosen: list[int] = []
    while len(chosen) < min(k, len(similarities)):

        def worth(place: int) -> float:
            alike = max((float(vectors[place] @ vectors[one]) for one in chosen), default=0.0)
            relevance = float(similarities[place])
            return round((1 - diversity) * relevance - diversity * alike, 5) if chosen else relevance

        left = [place for place in range(len(similarities)) if place not in chosen]
        chosen.append(max(left, key=lambda place: (worth(place), -place)))
    return chosen


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_diversity_is_maximal_marginal_relevance(seed: int, count: int, k: int, diversity: float) -> None:
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(count, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similarities = np.sort(np.round(generator.uniform(-1, 1, count), 5))[::-1]

    chosen = [one.place for one in choose(similarities, range(count), k, diversity=diversity, vectors=vectors)]

    assert chosen == by_definition(similarities, vectors, k, diversity)
    if diversity == 0:
        assert chosen == list(range(min(k, count)))


def test_full_diversity_takes_the_nearest_and_then_the_most_unlike_whatever_its_similarity() -> None:
    vectors = np.array([[1.0, 0], [0.9, 0.1], [0, 1], [-1, 0]])

    assert ids(hits(0.9, 0.8, 0.7, -0.5), replace(ASKED, k=2, diversity=1.0), vectors=vectors) == ["a", "d"]
    assert ids(hits(0.9, 0.8, 0.7, -0.5), replace(ASKED, k=2, diversity=0.0), vectors=vectors) == ["a", "b"]


def test_diversity_looks_at_no_more_than_the_candidates() -> None:
    vectors = np.array([[1.0, 0], [0.9, 0.1], [0, 1], [-1, 0]])
    asked = replace(ASKED, k=2, diversity=1.0)

    assert ids(hits(0.9, 0.8, 0.7, -0.5), asked, vectors=vectors, candidates=3) == ["a", "c"]


def test_balance_takes_the_best_of_each_label_in_rounds() -> None:
    found, labels = hits(0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3), ["x", "x", "x", "y", "x", "y", "z"]

    assert ids(found, replace(ASKED, k=7, balance=True), labels=labels) == ["a", "d", "g", "b", "f", "c", "e"]
    assert ids(found, replace(ASKED, k=2, balance=True), labels=labels) == ["a", "d"]


def test_balance_and_diversity_choose_within_a_round_what_is_worth_most() -> None:
    vectors = np.array([[1.0, 0], [1, 0], [0.9, 0.1], [0, 1]])
    asked = replace(ASKED, k=2, balance=True, diversity=0.5)

    assert ids(hits(0.9, 0.89, 0.88, 0.5), asked, vectors=vectors, labels=["x", "x", "y", "y"]) == ["a", "d"]


@pytest.mark.parametrize(
    ("asked", "name"),
    [({"distinct": 0.9}, "distinct"), ({"diversity": 0.5}, "diversity"), ({"balance": True}, "balance")],
)
def test_what_a_stage_needs_and_is_not_given_is_said(asked: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        select(hits(0.9), replace(ASKED, **asked), candidates=1)


@given(st.dictionaries(st.sampled_from("abcde"), st.integers(1, 9)), st.integers(1, 30))
def test_rounds_say_how_many_of_a_label_a_choice_may_take(counts: dict[str, int], k: int) -> None:
    needed = rounds(Counter(counts), k)
    labels = [name for name, count in counts.items() for _ in range(count)]
    chosen = choose(np.zeros(len(labels)), range(len(labels)), k, labels=labels)
    taken = Counter(labels[one.place] for one in chosen)

    assert all(taken[name] <= needed[name] <= counts[name] for name in counts)
    assert sum(needed.values()) >= len(chosen) == min(k, len(labels))


def test_labels_know_where_each_is() -> None:
    labels = Labels.of(["sad", "glad", "sad"])

    assert labels.names == ("glad", "sad") and [labels.at(place) for place in range(3)] == ["sad", "glad", "sad"]
    assert labels.positions("sad").tolist() == [0, 2] and labels.positions("angry").tolist() == []
    assert labels.counts() == {"sad": 2, "glad": 1}


# A pool in which one label is rare and far, and many rows are near copies.
WORDS = "river lake harbour island valley castle bridge forest meadow tower".split()


@pytest.fixture(scope="module")
def skewed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("skewed")
    rows: list[Mapping[str, Any]] = [
        {
            "id": f"g{n:03}",
            "input": {"text": f"the {WORDS[n % 10]} of {WORDS[n // 10 % 10]} {n // 50}"},
            "target": "glad",
        }
        for n in range(200)
    ]
    rows += [{"id": f"s{n}", "input": {"text": f"grim rain {n}"}, "target": "sad"} for n in range(5)]
    write_task(root / "tasks", NOTES, train=rows)
    build(BuildConfig(tasks=root / "tasks", out=root / "index", bm25=True), HashEncoder())
    return root


@pytest.fixture(scope="module")
def opened(skewed: Path) -> Retriever:
    return Retriever.open(skewed / "index", encoder=HashEncoder())


@cache
def whole_pool(skewed: Path, text: str) -> tuple[list[Row], list[Hit], NDArray[np.float64], list[str]]:
    """Every row of the pool in the order of a query's hits, its vector and its label: nothing is left out by depth."""
    pool, encoder = open_collection(skewed / "tasks").tasks["notes"].pool(), HashEncoder()
    query = encoder.encode_queries([row_query(pool.task, Row(id="", input={"text": text}, target=""))])[0]
    vectors = encoder.encode_demonstrations([encoder_demonstration(pool.task, row) for row in pool.rows])
    similarities = [round(float(vector @ query), 5) for vector in vectors.astype(np.float64)]
    best = sorted(range(len(pool.rows)), key=lambda place: (-similarities[place], pool.rows[place].id))
    rows = [pool.rows[place] for place in best]
    found = [Hit("notes", place, pool.rows[place].id, similarities[place]) for place in best]
    return rows, found, vectors[best].astype(np.float64), [row.target for row in rows]


OPTIONS: list[dict[str, Any]] = [
    {"balance": True},
    {"balance": True, "exclude": ("s0", "s1")},
    {"balance": True, "min_similarity": 0.3},
    {"balance": True, "diversity": 0.4, "candidates": 205},
    {"balance": True, "distinct": 0.95},
    {"distinct": 0.8},
    {"distinct": 0.3},
    {"distinct": 0.0},
    {"diversity": 0.5, "candidates": 205},
    {"diversity": 1.0, "candidates": 205},
    {"max_similarity": 0.5},
    {"max_similarity": 0.2, "min_similarity": 0.1},
    {"max_similarity": 0.6, "distinct": 0.9, "diversity": 0.2, "candidates": 205, "balance": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("k", [1, 4, 14])
def test_a_search_goes_as_deep_as_the_choice_needs(
    skewed: Path, opened: Retriever, options: dict[str, Any], k: int
) -> None:
    text = "the river of the lake"
    if options.get("candidates", k) < k:
        pytest.skip("fewer candidates than k")
    asked = RetrievalRequest(input=text, task="notes", k=k, **options)
    _, found, vectors, labels = whole_pool(skewed, text)
    left = [place for place, hit in enumerate(found) if hit.id not in asked.exclude]

    selected = select(
        [found[place] for place in left],
        asked,
        candidates=205,
        vectors=vectors[left],
        labels=[labels[place] for place in left],
    )

    expected = [(selected.hits[one.place].id, selected.hits[one.place].similarity) for one in selected.chosen]
    assert [(one.id, one.similarity) for one in opened.retrieve_batch([asked])[0]] == expected


def test_balance_gives_a_rare_label_its_share_in_every_mode(opened: Retriever) -> None:
    for mode in ("dense", "bm25", "hybrid"):
        found = opened.retrieve("notes", "the river of the grim lake", 6, balance=True, mode=mode)
        assert Counter(one.target for one in found) == {"glad": 3, "sad": 3}
        assert [one.target for one in found] == ["glad", "sad"] * 3 or [one.target for one in found] == [
            "sad",
            "glad",
        ] * 3


def test_nothing_found_leaves_nothing_to_choose_from(opened: Retriever) -> None:
    assert len(opened.retrieve("notes", "zebra", 3, mode="bm25", distinct=0.9, balance=True)) == 0


def test_a_search_ends_at_its_deepest(opened: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    every = opened.retrieve("notes", "the river of the lake", 50, keep_copies=True)
    below = every[49].similarity - 0.00001

    assert len(opened.retrieve("notes", "the river of the lake", 12, max_similarity=below)) == 12
    monkeypatch.setattr("udr.retrieval.executor.DEEPEST", 50)
    assert len(opened.retrieve("notes", "the river of the lake", 12, max_similarity=below)) == 0


def test_a_batch_chooses_as_single_calls_do(opened: Retriever) -> None:
    requests = [
        RetrievalRequest(input=f"the {word} of rain", task="notes", k=5, **{"candidates": 60, **options})
        for word in WORDS[:3]
        for options in OPTIONS
    ]

    assert opened.retrieve_batch(requests) == [opened.retrieve_batch([request])[0] for request in requests]


def test_ranks_are_the_order_of_the_choice(opened: Retriever) -> None:
    found = opened.retrieve("notes", "the river of the lake", 4, balance=True)

    assert [one.rank for one in found] == [1, 2, 3, 4]
    assert found[1].similarity < found[2].similarity


def test_copies_of_the_query_come_back_where_they_are_asked_for(opened: Retriever) -> None:
    copy = "the river of river 0"

    assert "g000" not in [one.id for one in opened.retrieve("notes", copy, 5)]
    assert opened.retrieve("notes", copy, 5, keep_copies=True)[0].id == "g000"
    assert opened.retrieve("notes", copy, 5, keep_copies=True, max_similarity=0.9)[0].id != "g000"


def test_explain_tells_each_candidate_s_stage_and_why(opened: Retriever) -> None:
    found = opened.retrieve(
        "notes",
        "the river of river 0",
        3,
        exclude=("g020",),
        max_similarity=0.72,
        min_similarity=0.2,
        distinct=0.97,
        explain=True,
    )

    told = {one.id: one for one in found.decisions}
    assert told["g000"].stage == "copies" and "for case, spaces" in told["g000"].reason
    assert {one.stage for one in found.decisions} >= {"copies", "choice", "max_similarity"}
    assert [one.id for one in found.decisions if one.kept] == [one.id for one in found]
    assert all(one.stage == "choice" for one in found.decisions if one.kept)
    assert [one.similarity for one in found.decisions] == sorted((d.similarity for d in found.decisions), reverse=True)
    assert found.to_json()["decisions"] == [one.to_json() for one in found.decisions]
    assert len([one for one in found.decisions if not one.kept]) == 50


def test_explain_changes_no_answer(opened: Retriever) -> None:
    for options in OPTIONS:
        options = {"candidates": 60, **options}
        plain = opened.retrieve("notes", "the tower of rain", 5, **options)
        assert opened.retrieve("notes", "the tower of rain", 5, explain=True, **options).demonstrations == plain[:]
        assert plain.decisions == ()


def test_explain_lists_excluded_ids_where_they_are_near(opened: Retriever) -> None:
    found = opened.retrieve("notes", "grim rain again", 2, exclude=("s3",), explain=True)

    (told,) = [one for one in found.decisions if one.id == "s3"]
    assert (told.stage, told.kept, told.reason) == ("exclude", False, "its id is excluded")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"diversity": 1.1}, "diversity must be from 0 to 1, found 1.1"),
        ({"diversity": -0.1}, "diversity must be from 0 to 1"),
        ({"diversity": True}, "diversity must be a number, found True"),
        ({"distinct": 2}, "distinct must be from 0 to 1"),
        ({"distinct": float("nan")}, "distinct must be a number"),
        ({"max_similarity": "1"}, "max_similarity must be a number"),
        ({"balance": 1}, "balance must be true or false, found 1"),
        ({"keep_copies": "no"}, "keep_copies must be true or false"),
        ({"explain": None}, "explain must be true or false"),
        ({"candidates": 4}, r"candidates must be a whole number, not below k \(8\); found 4"),
        ({"candidates": 8.0}, "candidates must be a whole number"),
        ({"diversity": 0.5, "mode": "bm25"}, "diversity weighs the encoder's similarities"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(opened: Retriever, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        opened.retrieve("notes", "a day", 8, **options)


def test_balance_without_labels_is_refused(tmp_path: Path) -> None:
    keys = {**NOTES, "name": "free", "kind": "generation", "metric": "exact_match"}
    del keys["labels"]
    rows: list[Mapping[str, Any]] = [{"id": "1", "input": {"text": "a"}, "target": "b"}]
    write_task(tmp_path / "tasks", keys, train=rows)
    build(BuildConfig(tasks=tmp_path / "tasks", out=tmp_path / "index"), HashEncoder())
    with (
        Retriever.open(tmp_path / "index", encoder=HashEncoder()) as retriever,
        pytest.raises(InvalidInputError, match="balance needs labels, and these are no classification tasks: free"),
    ):
        retriever.retrieve("free", "c", 1, balance=True)


async def _both(retriever: Retriever) -> tuple[Any, Any]:
    request = RetrievalRequest(input="the river", task="notes", k=3)
    return await retriever.aretrieve("notes", "the river", 3, balance=True), await retriever.aretrieve_batch([request])


def test_asked_from_an_event_loop_the_answers_are_the_same(opened: Retriever) -> None:
    one, several = asyncio.run(_both(opened))

    assert one == opened.retrieve("notes", "the river", 3, balance=True)
    assert several == [opened.retrieve("notes", "the river", 3)]


def test_the_event_loop_goes_on_while_a_retriever_encodes(skewed: Path) -> None:
    class Slow(HashEncoder):
        def encode_queries(self, texts: Sequence[str]) -> Any:
            time.sleep(0.3)
            return super().encode_queries(texts)

    async def ask(retriever: Retriever) -> float:
        asked = asyncio.create_task(retriever.aretrieve("notes", "the river", 3))
        await asyncio.sleep(0)
        started = time.perf_counter()
        await asyncio.sleep(0.01)
        delay = time.perf_counter() - started
        await asked
        return delay

    with Retriever.open(skewed / "index", encoder=Slow()) as retriever:
        assert asyncio.run(ask(retriever)) < 0.2
