"""What ranks: the encoder, the words, or both, with the same ids and the same order of equals."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.fakes import NOTES, HashEncoder, write_task
from udr.data import input_words, open_collection
from udr.errors import ArtifactError, InvalidInputError
from udr.retrieval import Mode, RetrievalRequest, Retriever, select
from udr.search import BM25Search, Hit, fuse, nearest
from udr.store import open_version, verify
from udr_index.build import BuildConfig, build

QUERY = "what a dull tuesday"


@pytest.fixture(scope="module")
def lexical(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of the collection with BM25."""
    out = tmp_path_factory.mktemp("lexical") / "out"
    build(BuildConfig(tasks=collection, out=out, bm25=True), HashEncoder())
    return out


@pytest.fixture
def both(lexical: Path) -> Iterator[Retriever]:
    with Retriever.open(lexical, encoder=HashEncoder()) as retriever:
        yield retriever


def by_words(collection: Path, task: str, query: str, k: int) -> list[tuple[str, float]]:
    """Ids and scores of the rows that share words with a query, ties by id."""
    pool = open_collection(collection).tasks[task].pool()
    texts = [input_words(pool.task, row.input, row.choices) for row in pool.rows]
    (found,) = BM25Search(texts).search([query], k)
    return [(pool.rows[position].id, score) for position, score in found]


def test_words_rank_as_bm25_does_over_the_inputs_and_nothing_is_encoded(
    collection: Path, lexical: Path, both: Retriever
) -> None:
    found = both.retrieve("notes", QUERY, 20, mode="bm25")

    assert [(one.id, one.similarity) for one in found] == by_words(collection, "notes", QUERY, 20)
    assert [one.rank for one in found] == list(range(1, len(found) + 1))
    assert isinstance(both.encoder, HashEncoder) and both.encoder.queries == []
    assert verify(lexical) == []


def test_both_are_fused_by_rank(collection: Path, both: Retriever) -> None:
    dense = [one.id for one in both.retrieve("notes", QUERY, 20)]
    words = [id for id, _ in by_words(collection, "notes", QUERY, 20)]
    expected = {
        id: sum(1 / (61 + ranking.index(id)) for ranking in (dense, words) if id in ranking) for id in {*dense, *words}
    }
    best = sorted(expected, key=lambda id: (-expected[id], id))[:7]

    found = both.retrieve("notes", QUERY, 7, mode="hybrid")

    assert [(one.id, one.similarity) for one in found] == [(id, round(expected[id], 5)) for id in best]


def test_a_fusion_keeps_the_order_of_ranks_that_look_equal() -> None:
    # From rank 258 on, neighbours differ by less than what is shown; their ids run against their ranks.
    hits = [Hit("t", place, f"{999 - place:03}", 1 - place / 1000) for place in range(600)]

    asked = RetrievalRequest(input="", k=600, min_similarity=round(1 / 660, 5))
    selected = select(nearest(fuse([hits, []])), asked, candidates=600)

    assert [selected.hits[one.place].position for one in selected.chosen] == list(range(600))


@pytest.mark.parametrize("mode", ["bm25", "hybrid"])
@pytest.mark.parametrize("query", ["river stone moss", "river", "who knows the moss"])
def test_words_score_over_a_family_as_in_one_pool_of_all_its_rows(tmp_path: Path, mode: Mode, query: str) -> None:
    # A word that is in all rows of one pool and rare in the other, and pools of different lengths.
    pools = {
        "a": [f"river a{n} stone" for n in range(12)],
        "b": [f"{'river' if n == 0 else 'hill and dale'} b{n} moss" for n in range(30)],
    }
    tasks = {"apart": pools, "together": {"c": [*pools["a"], *pools["b"]]}}
    found = {}
    for name, texts in tasks.items():
        for task, said in texts.items():
            rows: list[Mapping[str, Any]] = [
                {"id": text.replace(" ", "-"), "input": {"text": text}, "target": "glad"} for text in said
            ]
            write_task(tmp_path / name, {**NOTES, "name": task}, train=rows)
        build(BuildConfig(tasks=tmp_path / name, out=tmp_path / f"{name}.index", bm25=True), HashEncoder())
        with Retriever.open(tmp_path / f"{name}.index", encoder=HashEncoder()) as opened:
            answer = opened.retrieve(family="mood", input=query, k=20, mode=mode)
            found[name] = [(one.id, one.similarity) for one in answer]

    assert found["apart"] == found["together"]
    assert len(found["apart"]) == (13 if (query, mode) == ("river", "bm25") else 20)


def test_a_bound_that_was_shown_keeps_what_it_was_shown_of(both: Retriever) -> None:
    for mode in get_args(Mode):
        for query in ("a fine day", "i lost it on friday", QUERY):
            found = both.retrieve("notes", query, 20, mode=mode)
            for one in found:
                assert one.similarity == round(one.similarity, 5)
                again = both.retrieve("notes", query, 20, mode=mode, min_similarity=one.similarity)
                assert one.id in [other.id for other in again]


@pytest.mark.parametrize("mode", get_args(Mode))
def test_copies_and_excluded_ids_never_come_back_and_a_bound_bounds(both: Retriever, mode: Mode) -> None:
    first = both.retrieve("notes", QUERY, 20, mode=mode)

    found = both.retrieve("notes", QUERY, 5, mode=mode, exclude=[first[0].id], min_similarity=first[3].similarity)

    # What is excluded has no rank, so those of a fusion move up.
    if mode != "hybrid":
        assert [one.id for one in found] == [one.id for one in first[1:6] if one.similarity >= first[3].similarity]
    assert first[0].id not in [one.id for one in found]
    assert all(one.similarity >= first[3].similarity for one in found)
    copied = both.retrieve("notes", {"text": "What a FINE monday!"}, 19, mode=mode)
    assert "n00" not in [one.id for one in copied] and len(copied) > 3


def test_a_wider_scope_is_ranked_over_all_its_tasks(both: Retriever) -> None:
    for mode in get_args(Mode):
        found = both.retrieve(scope="all", input="who lost the kettle on monday", k=12, mode=mode)
        ranked = [(-one.similarity, *((one.id, one.task) if mode != "hybrid" else ())) for one in found]
        assert ranked == sorted(ranked)
        assert len({one.task for one in found}) > 1


def test_modes_may_be_mixed_in_a_batch(both: Retriever) -> None:
    requests = [
        RetrievalRequest(input=f"a grey {day}", task="notes", k=4, mode=mode)
        for day in ("monday", "friday")
        for mode in get_args(Mode)
    ]
    alone = [both.retrieve("notes", one.input, 4, mode=one.mode) for one in requests]
    assert both.retrieve_batch(requests) == alone


@pytest.mark.parametrize("mode", ["bm25", "hybrid"])
def test_an_index_without_words_says_how_to_get_them(retriever: Retriever, mode: Mode) -> None:
    with pytest.raises(InvalidInputError, match=f"mode '{mode}' needs an index with BM25; run: udr index build --bm25"):
        retriever.retrieve("notes", QUERY, mode=mode)


def test_an_unknown_mode_is_refused(both: Retriever) -> None:
    wrong: Any = "sparse"
    with pytest.raises(InvalidInputError, match="mode must be one of dense, bm25, hybrid; found 'sparse'"):
        both.retrieve("notes", QUERY, mode=wrong)


def test_a_query_that_shares_no_word_finds_nothing_by_words_and_the_nearest_by_both(both: Retriever) -> None:
    # The template's own words are in every row, and count for nothing.
    assert len(both.retrieve("notes", "note zzz", 3, mode="bm25")) == 0
    assert len(both.retrieve(scope="all", input="zzz", k=3, mode="bm25")) == 0
    assert len(both.retrieve(scope="all", input="zzz", k=3, mode="hybrid")) == 3


def test_equal_inputs_give_equal_bytes(collection: Path, lexical: Path, tmp_path: Path) -> None:
    built = build(BuildConfig(tasks=collection, out=tmp_path, bm25=True), HashEncoder())
    other = open_version(lexical).path
    files = [path.relative_to(other) for path in other.rglob("*") if path.is_file()]
    assert sum("bm25" in path.parts for path in files) >= 9
    assert all((other / path).read_bytes() == (built.path / path).read_bytes() for path in files)


def test_words_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    BM25Search(["a b", "c"]).save(tmp_path / "two")
    with pytest.raises(ArtifactError, match=r"two: is of 2 texts, 3 are expected; run: udr index verify"):
        BM25Search.load(tmp_path / "two", 3)
    (tmp_path / "two" / "words.json").write_bytes(b"{")
    with pytest.raises(ArtifactError, match=r"two: cannot be read .*; run: udr index verify"):
        BM25Search.load(tmp_path / "two", 2)
    with pytest.raises(ArtifactError, match=r"none: cannot be read"):
        BM25Search.load(tmp_path / "none", 2)
    BM25Search(["?", ""]).save(tmp_path / "empty")
    assert BM25Search.load(tmp_path / "empty", 2).search(["a"], 3) == [[]]


def test_ranks_are_fused_by_their_reciprocals() -> None:
    def hits(*places: int) -> list[Hit]:
        return [Hit("t", place, str(place), 0.5) for place in places]

    fused = fuse([hits(3, 1), hits(1, 2)])

    assert {hit.position: hit.similarity for hit in fused} == {
        1: 1 / 62 + 1 / 61,
        2: 1 / 62,
        3: 1 / 61,
    }
