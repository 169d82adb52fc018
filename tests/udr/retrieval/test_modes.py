"""Modes: dense, BM25 and hybrid retrieval return the same ids and break ties alike."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.fakes import HashEncoder
from tests.udr.retrieval.conftest import OpenPools, note
from udr.data import input_words, open_collection
from udr.errors import InvalidInputError, VerificationError
from udr.retrieval import Mode, RetrievalRequest, Retriever, select
from udr.search import BM25Search, Hit, fuse, nearest
from udr.store import open_version, read_weights, verify, write_weights
from udr_index.build import BuildConfig, build

QUERY = "what a dull tuesday"
MODES: tuple[Mode, ...] = get_args(Mode)


@pytest.fixture(scope="module")
def lexical(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of the collection with BM25."""
    out = tmp_path_factory.mktemp("lexical") / "out"
    build(BuildConfig(tasks=collection, out=out, bm25=True), HashEncoder())
    return out


@pytest.fixture(scope="module")
def opened(lexical: Path) -> Iterator[Retriever]:
    with Retriever.open(lexical, encoder=HashEncoder()) as retriever:
        yield retriever


@pytest.fixture(scope="module")
def by_words(collection: Path) -> list[tuple[str, float]]:
    """Ids and BM25 scores of the rows of ``notes`` that share words with the query, ties by id."""
    pool = open_collection(collection).tasks["notes"].pool()
    (hits,) = BM25Search([input_words(pool.task, row.input, row.choices) for row in pool.rows]).search([QUERY], 20)
    return [(pool.rows[position].id, score) for position, score in hits]


def test_bm25_ranks_inputs_and_encodes_nothing(lexical: Path, by_words: list[tuple[str, float]]) -> None:
    encoder = HashEncoder()
    with Retriever.open(lexical, encoder=encoder) as retriever:
        retrieval = retriever.retrieve("notes", QUERY, 20, mode="bm25")
    assert [(d.id, d.similarity) for d in retrieval] == by_words
    assert [d.rank for d in retrieval] == list(range(1, len(by_words) + 1))
    assert encoder.queries == []
    assert verify(lexical) == []


def test_hybrid_fuses_ranks(opened: Retriever, by_words: list[tuple[str, float]]) -> None:
    rankings = [d.id for d in opened.retrieve("notes", QUERY, 20)], [id for id, _ in by_words]
    ids = {id for ranking in rankings for id in ranking}
    expected = {id: sum(1 / (61 + ranking.index(id)) for ranking in rankings if id in ranking) for id in ids}
    best = sorted(expected, key=lambda id: (-expected[id], id))[:7]
    retrieval = opened.retrieve("notes", QUERY, 7, mode="hybrid")
    assert [(d.id, d.similarity) for d in retrieval] == [(id, round(expected[id], 5)) for id in best]


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 1.0])
def test_a_weight_says_how_much_the_encoder_s_ranks_count(
    opened: Retriever, by_words: list[tuple[str, float]], weight: float
) -> None:
    dense, words = [d.id for d in opened.retrieve("notes", QUERY, 20)], [id for id, _ in by_words]
    factors = {tuple(dense): 2 * weight, tuple(words): 2 - 2 * weight}
    sums = {id: sum(f / (61 + r.index(id)) for r, f in factors.items() if id in r) for id in (*dense, *words)}
    # What does not count comes after all that does, in its own order.
    expected = sorted(sums, key=lambda id: (-round(sums[id], 12), dense.index(id) if weight == 0 else 0, id))
    retrieval = opened.retrieve("notes", QUERY, 20, mode="hybrid", weight=weight)
    assert [d.id for d in retrieval] == expected
    assert [d.similarity for d in retrieval] == [round(sums[id], 5) for id in expected]
    if weight == 0.5:
        assert retrieval == opened.retrieve("notes", QUERY, 20, mode="hybrid")


def test_an_index_keeps_a_weight_for_each_task(lexical: Path, tmp_path: Path) -> None:
    shutil.copytree(lexical, tmp_path / "out")
    version, encoder = open_version(tmp_path / "out"), HashEncoder()
    assert read_weights(version.path, version.manifest) == {}
    write_weights(version.path, version.manifest, {"notes": 0.2})
    assert verify(tmp_path / "out") == [] and read_weights(version.path, version.manifest) == {"notes": 0.2}
    with Retriever.open(tmp_path / "out", encoder=encoder) as kept, Retriever.open(lexical, encoder=encoder) as plain:
        assert kept.weights == {"notes": 0.2}

        def found(retriever: Retriever, **options: Any) -> list[tuple[str, float]]:
            return [(d.id, d.similarity) for d in retriever.retrieve(input=QUERY, k=9, mode="hybrid", **options)]

        assert found(kept, task="notes") == found(plain, task="notes", weight=0.2) != found(plain, task="notes")
        assert found(kept, task="notes", weight=0.5) == found(plain, task="notes")
        # A weight is of one task's rankings.
        assert found(kept, scope="all") == found(plain, scope="all")
        explained = kept.retrieve("notes", QUERY, 1, mode="hybrid", explain=True).decisions[0].reason
        assert "by the encoder (weight 0.2)" in explained and "by BM25 (weight 0.8)" in explained


@pytest.mark.parametrize("weight", [0.3, 0.5])
def test_what_a_hybrid_search_leaves_out_is_explained_on_the_scale_of_the_others(
    opened: Retriever, weight: float
) -> None:
    query = opened.demonstration("notes", "n03").input
    options: dict[str, Any] = {"mode": "hybrid", "weight": weight, "explain": True}
    everything = opened.retrieve("notes", query, 20, keep_copies=True, **options)
    numbers = {decision.id: decision.similarity for decision in everything.decisions}
    excluded = everything[5].id
    decisions = opened.retrieve("notes", query, 2, exclude=[excluded], **options).decisions
    apart = {decision.id: decision for decision in decisions if decision.stage in ("exclude", "copies")}
    assert {id: decision.similarity for id, decision in apart.items()} == {id: numbers[id] for id in ("n03", excluded)}
    assert [decision.similarity for decision in decisions] == sorted((d.similarity for d in decisions), reverse=True)


@pytest.mark.parametrize(
    "weights",
    [{"notes": 1.5}, {"notes": 10**400}, {"notes": True}, {"notes": "0.5"}, {"nope": 0.5}],
    ids=lambda weights: str(weights)[:20],
)
def test_weights_that_mean_nothing_are_refused(lexical: Path, tmp_path: Path, weights: Any) -> None:
    shutil.copytree(lexical, tmp_path / "out")
    version = open_version(tmp_path / "out")
    write_weights(version.path, version.manifest, weights)
    with pytest.raises(VerificationError, match=r"search.json: is altered"):
        Retriever.open(tmp_path / "out", encoder=HashEncoder(), verify=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "dense", "weight": 0.5}, "weight fuses two rankings, so mode must be 'hybrid'; found 'dense'"),
        ({"mode": "hybrid", "weight": 1.5}, "weight must be from 0 to 1, found 1.5"),
        ({"mode": "hybrid", "weight": True}, "weight must be a number, found"),
    ],
)
def test_invalid_weights_are_refused(opened: Retriever, options: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        opened.retrieve("notes", QUERY, 3, **options)


def test_fusion_keeps_the_order_of_ranks_that_round_to_the_same_number() -> None:
    # From rank 258 on, neighbours differ by less than what is shown; their ids run against their ranks.
    hits = [Hit("t", position, f"{999 - position:03}", 1 - position / 1000) for position in range(600)]
    request = RetrievalRequest(input="", k=600, min_similarity=round(1 / 660, 5))
    selected = select(nearest(fuse([hits, []])), request, candidates=600)
    assert [selected.hits[index].position for index in selected.chosen] == list(range(600))


@pytest.mark.parametrize("query", ["river stone moss", "river", "who knows the moss"])
def test_bm25_scores_of_a_family_equal_those_of_one_pool(pools: OpenPools, query: str) -> None:
    # A word in all rows of one pool that is rare in the other, and pools of different lengths.
    a = [f"river a{n} stone" for n in range(12)]
    b = [f"{'river' if n == 0 else 'hill and dale'} b{n} moss" for n in range(30)]
    rows = {text: note(text.replace(" ", "-"), text) for text in (*a, *b)}
    apart = pools({"a": [rows[text] for text in a], "b": [rows[text] for text in b]}, bm25=True)
    together = pools({"c": [*rows.values()]}, bm25=True)
    for mode in ("bm25", "hybrid"):
        results = [
            [(d.id, d.similarity) for d in retriever.retrieve(family="mood", input=query, k=20, mode=mode)]
            for retriever in (apart, together)
        ]
        assert results[0] == results[1]
        assert len(results[0]) == (13 if (query, mode) == ("river", "bm25") else 20)


@pytest.mark.parametrize("mode", MODES)
def test_a_shown_similarity_as_bound_keeps_its_demonstration(opened: Retriever, mode: Mode) -> None:
    for query in ("a fine day", QUERY):
        for d in opened.retrieve("notes", query, 20, mode=mode):
            assert d.similarity == round(d.similarity, 5)
            bounded = opened.retrieve("notes", query, 20, mode=mode, min_similarity=d.similarity)
            assert d.id in [other.id for other in bounded]


def test_a_bound_that_no_sum_of_reciprocal_ranks_reaches_is_refused(opened: Retriever) -> None:
    assert not opened.retrieve("notes", QUERY, 20, mode="hybrid", weight=0.3, min_similarity=round(2 / 61, 5))
    with pytest.raises(InvalidInputError, match=r"at most 0\.03279, so min_similarity must .* found 0\.0328; lower"):
        opened.retrieve("notes", QUERY, 20, mode="hybrid", min_similarity=0.0328)


@pytest.mark.parametrize("mode", MODES)
def test_copies_and_excluded_ids_are_excluded_and_bounds_hold(opened: Retriever, mode: Mode) -> None:
    first = opened.retrieve("notes", QUERY, 20, mode=mode)
    bound = first[3].similarity
    retrieval = opened.retrieve("notes", QUERY, 5, mode=mode, exclude=[first[0].id], min_similarity=bound)
    # Excluded hits have no rank, so those of a fusion move up.
    if mode != "hybrid":
        assert [d.id for d in retrieval] == [d.id for d in first[1:6] if d.similarity >= bound]
    assert first[0].id not in [d.id for d in retrieval]
    assert all(d.similarity >= bound for d in retrieval)
    others = opened.retrieve("notes", {"text": "What a FINE monday!"}, 19, mode=mode)
    assert "n00" not in [d.id for d in others] and len(others) > 3


def test_a_query_without_shared_words_has_no_bm25_hits(opened: Retriever) -> None:
    # The template's own words are in every row, and do not count.
    assert len(opened.retrieve("notes", "note zzz", 3, mode="bm25")) == 0
    assert len(opened.retrieve(scope="all", input="zzz", k=3, mode="bm25")) == 0
    assert len(opened.retrieve(scope="all", input="zzz", k=3, mode="hybrid")) == 3
