"""Candidates: never the query or a copy of it, as many as asked for, the same in every run."""

from collections.abc import Sequence

import pytest

from udr.data import Pool
from udr.models import SentenceEncoder
from udr.types import Row
from udr_training.candidates import CandidatePool, bm25_neighbours, encoder_neighbours, first_neighbours, propose


def row(number: int, words: str, target: str = "good") -> Row:
    return Row(id=f"r{number:02}", input={"text": words}, target=target)


@pytest.fixture
def pool(pools: dict[str, Pool]) -> Pool:
    rows = [row(number, f"word{number} shared") for number in range(10)]
    # A copy of row 0 in letters and digits, under another id.
    return Pool(pools["reviews"].task, (*rows, row(10, "Word0, SHARED!")))


@pytest.mark.parametrize("random_share", [0.0, 0.5, 1.0])
def test_neither_the_query_nor_its_copy_is_a_candidate(pool: Pool, random_share: float) -> None:
    queries = [pool.rows[0], pool.rows[10]]
    proposed = propose(CandidatePool(pool, 0), queries, first_neighbours(pool), 9, random_share)
    for query in queries:
        assert sorted(proposed[query.id]) == [f"r{number:02}" for number in range(1, 10)]


def test_neighbours_come_first_and_the_share_is_random(pool: Pool) -> None:
    def neighbours(queries: Sequence[Row], count: int) -> list[list[int]]:
        return [list(range(9, -1, -1))[:count] for _ in queries]

    (candidates,) = propose(CandidatePool(pool, 0), [pool.rows[1]], neighbours, 6, 0.5).values()
    assert candidates[:3] == ("r09", "r08", "r07")
    assert len(set(candidates)) == 6


def test_the_random_share_is_the_same_in_every_iteration(pool: Pool) -> None:
    def none(queries: Sequence[Row], count: int) -> list[list[int]]:
        return [[] for _ in queries]

    first = propose(CandidatePool(pool, 3), [pool.rows[1]], none, 4, 1.0)
    assert first == propose(CandidatePool(pool, 3), [pool.rows[1]], bm25_neighbours(pool), 4, 1.0)
    assert first != propose(CandidatePool(pool, 4), [pool.rows[1]], none, 4, 1.0)


def test_unknown_words_are_filled_up_by_seed(pool: Pool) -> None:
    stranger = row(99, "nothing like it")
    assert bm25_neighbours(pool)([stranger], 5) == [[]]
    assert len(propose(CandidatePool(pool, 0), [stranger], bm25_neighbours(pool), 5, 0.0)["r99"]) == 5


def test_a_pool_smaller_than_asked_for_gives_all_others(pool: Pool) -> None:
    assert len(propose(CandidatePool(pool, 0), [pool.rows[3]], first_neighbours(pool), 50, 0.2)["r03"]) == 10


def test_a_context_is_a_querys_own_and_never_shows_its_answer(pool: Pool) -> None:
    others = CandidatePool(pool, 0)
    contexts = {row.id: others.context(row, 3) for row in pool.rows}
    assert all(len(set(row.id for row in context)) == 3 for context in contexts.values())
    assert len({tuple(row.id for row in context) for context in contexts.values()}) > 5
    for asked in (0, 10):  # copies of one another
        assert not {"r00", "r10"} & {row.id for row in others.context(pool.rows[asked], 9)}
    assert (
        contexts["r03"]
        == CandidatePool(pool, 0).context(pool.rows[3], 3)
        != CandidatePool(pool, 1).context(pool.rows[3], 3)
    )
    assert others.context(pool.rows[3], 0) == ()


def test_a_context_is_drawn_apart_from_the_random_candidates(pool: Pool) -> None:
    others = CandidatePool(pool, 0)
    assert [others.context(row, 10) for row in pool.rows[1:10]] != [tuple(others.drawn(row)) for row in pool.rows[1:10]]


def test_generation_looks_for_like_targets_and_classification_for_like_inputs(pools: dict[str, Pool]) -> None:
    pool = pools["reverse"]
    query = Row(id="q", input={"words": "entirely unknown"}, target="train3 snow")
    assert pool.rows[first_neighbours(pool)([query], 1)[0][0]].target == "train3 snow"
    assert bm25_neighbours(pool)([query], 1) == [[]]


def test_encoder_neighbours_are_the_nearest_by_its_vectors(pools: dict[str, Pool], encoder_folder: object) -> None:
    from udr.data import formatting

    pool = pools["reviews"]
    encoder = SentenceEncoder.load(str(encoder_folder), device="cpu")
    demonstrations = encoder.encode_demonstrations(
        [formatting.encoder_demonstration(pool.task, row) for row in pool.rows]
    )
    query = formatting.encoder_query(pool.task.instruction, formatting.input_text(pool.task, pool.rows[5].input))
    similarities = demonstrations @ encoder.encode_queries([query])[0]
    found = encoder_neighbours(pool, encoder)([pool.rows[5]], 3)[0]
    assert similarities[found].tolist() == pytest.approx(sorted(similarities, reverse=True)[:3], abs=1e-4)
