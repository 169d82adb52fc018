"""Candidates: never the query or a copy of it, as many as requested, the same in every run."""

import hashlib
import random
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from tests.udr.models.runner.fake_pool import FakePool
from udr.data import Pool, formatting
from udr.models import ScatteredEncoder, Scheduler, SentenceEncoder
from udr.models.runner import LoadEncoder
from udr.types import Row
from udr_training.candidates import CandidatePool, bm25_neighbours, encoder_neighbours, first_neighbours, propose


def row(number: int, words: str) -> Row:
    return Row(id=f"r{number:02}", input={"text": words}, target="good")


@pytest.fixture
def pool(pools: dict[str, Pool]) -> Pool:
    rows = [row(number, f"word{number} shared") for number in range(10)]
    # A copy of row 0 in letters and digits, with another id.
    return Pool(pools["reviews"].task, (*rows, row(10, "Word0, SHARED!")))


@pytest.mark.parametrize("random_share", [0.0, 0.5, 1.0])
def test_candidates_exclude_the_query_and_its_copies(pool: Pool, random_share: float) -> None:
    queries = [pool.rows[0], pool.rows[10]]
    proposed = propose(CandidatePool(pool, 0), queries, first_neighbours(pool), 9, random_share)
    for query in queries:
        assert sorted(proposed[query.id]) == [f"r{number:02}" for number in range(1, 10)]


def test_neighbours_come_first_and_the_rest_is_random(pool: Pool) -> None:
    (candidates,) = propose(
        CandidatePool(pool, 0), [pool.rows[1]], lambda _, count: [list(range(9, -1, -1))[:count]], 6, 0.5
    ).values()
    assert candidates[:3] == ("r09", "r08", "r07")
    assert len(set(candidates)) == 6


def test_random_candidates_depend_only_on_seed_and_query(pool: Pool) -> None:
    first = propose(CandidatePool(pool, 3), [pool.rows[1]], lambda *_: [[]], 4, 1.0)
    assert first == propose(CandidatePool(pool, 3), [pool.rows[1]], bm25_neighbours(pool), 4, 1.0)
    assert first != propose(CandidatePool(pool, 4), [pool.rows[1]], lambda *_: [[]], 4, 1.0)


@pytest.mark.parametrize("count", [1, 2, 5, 20, 21, 22, 85, 86, 1000])
def test_rows_are_drawn_one_by_one_as_a_sample_of_all(pools: dict[str, Pool], count: int) -> None:
    pool = Pool(pools["reviews"].task, tuple(row(number, f"word{number}") for number in range(count)))
    query = row(-1, "another")
    drawn = CandidatePool(pool, 3).drawn(query)
    # Stored scores are of this sample's first rows.
    seed = int.from_bytes(hashlib.sha256(f"3:reviews:{query.id}".encode()).digest()[:8])
    expected = random.Random(seed).sample(range(count), count)
    assert next(drawn) == pool.rows[expected[0]]
    assert list(drawn) == [pool.rows[number] for number in expected[1:]]


def test_unknown_words_are_filled_up_with_random_candidates_as_far_as_the_pool_goes(pool: Pool) -> None:
    unknown = row(99, "nothing like it")
    assert bm25_neighbours(pool)([unknown], 5) == [[]]
    assert len(propose(CandidatePool(pool, 0), [unknown], bm25_neighbours(pool), 5, 0.0)["r99"]) == 5
    assert len(propose(CandidatePool(pool, 0), [pool.rows[3]], first_neighbours(pool), 50, 0.2)["r03"]) == 10


def test_context_depends_on_query_and_seed_and_never_shows_the_answer(pool: Pool) -> None:
    candidate_pool = CandidatePool(pool, 0)
    contexts = [tuple(row.id for row in candidate_pool.context(row, 3)) for row in pool.rows]
    assert all(len(set(ids)) == 3 for ids in contexts)
    assert len(set(contexts)) > 5
    for number in (0, 10):  # copies of one another
        assert not {"r00", "r10"} & {row.id for row in candidate_pool.context(pool.rows[number], 9)}
    assert candidate_pool.context(pool.rows[3], 3) == CandidatePool(pool, 0).context(pool.rows[3], 3)
    assert candidate_pool.context(pool.rows[3], 3) != CandidatePool(pool, 1).context(pool.rows[3], 3)
    assert candidate_pool.context(pool.rows[3], 0) == ()
    # It is drawn apart from the random candidates.
    assert any(candidate_pool.context(row, 10) != tuple(candidate_pool.drawn(row)) for row in pool.rows[1:10])


def test_first_neighbours_have_similar_targets_for_generation(pools: dict[str, Pool]) -> None:
    pool = pools["reverse"]
    query = Row(id="q", input={"words": "entirely unknown"}, target="train3 snow")
    assert pool.rows[first_neighbours(pool)([query], 1)[0][0]].target == "train3 snow"
    assert bm25_neighbours(pool)([query], 1) == [[]]


def test_encoder_neighbours_are_nearest_by_vector(pools: dict[str, Pool], encoder_folder: Path) -> None:
    task, rows = pools["reviews"].task, pools["reviews"].rows
    encoder = SentenceEncoder.load(str(encoder_folder), device="cpu")
    vectors = encoder.encode_demonstrations([formatting.encoder_demonstration(task, row) for row in rows])
    similarities = vectors @ encoder.encode_queries([formatting.row_query(task, rows[5])])[0]
    (positions,) = encoder_neighbours(pools["reviews"], encoder)([rows[5]], 3)
    assert similarities[positions].tolist() == pytest.approx(sorted(similarities, reverse=True)[:3], abs=1e-4)


def test_workers_find_the_neighbours_of_one_process(pools: dict[str, Pool], encoder_folder: Path) -> None:
    encoder = SentenceEncoder.load(str(encoder_folder), device="cpu")
    rows = [replace(row, id=f"{row.id}-{number}") for number in range(13) for row in pools["reviews"].rows]
    # Some have equal vectors, and more than one batch is encoded.
    pool = Pool(pools["reviews"].task, tuple(rows))
    load, deaths = LoadEncoder(encoder.name, "cpu"), list[str]()

    def dies(number: int, key: str) -> bool:
        # One worker dies of the first shard that it gets.
        deaths.append(key)
        return len(deaths) == 1

    scattered = ScatteredEncoder(encoder, Scheduler(lambda: FakePool(2, load, dies), load()[0]))
    expected = encoder_neighbours(pool, encoder)(rows, 20)
    assert len(rows) > 256 and encoder_neighbours(pool, scattered)(rows, 20) == expected
    assert deaths.count(deaths[0]) == 2


def test_shared_demonstrations_are_drawn_first_for_every_query(pool: Pool) -> None:
    shared = CandidatePool(pool, 0, shared=5)
    drawn = {query.id: {row.id for row in list(shared.drawn(query))[:4]} for query in pool.rows}
    common = set.union(*drawn.values())
    assert len(common) == 5 and all(query not in ids for query, ids in drawn.items())
    proposed = propose(shared, pool.rows, first_neighbours(pool), 6, 0.5)
    assert all(len(ids) == 6 and len(common & set(ids)) >= 3 for ids in proposed.values())
    assert {row.id for query in pool.rows for row in shared.context(query, 1)} <= common
    # The rest follows, in another order for each query.
    assert [len(list(shared.drawn(query))) for query in pool.rows[1:3]] == [10, 10]
    assert len({tuple(row.id for row in list(shared.drawn(query))[:4]) for query in pool.rows}) > 5


def test_the_first_rows_cost_no_draw_of_the_whole_pool(pools: dict[str, Pool], monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(pools["reviews"].task, tuple(row(number, f"word{number}") for number in range(1000)))
    plain, drawn = random.Random.randrange, list[int]()

    def counted(draw: random.Random, below: int) -> int:
        drawn.append(below)
        return plain(draw, below)

    monkeypatch.setattr(random.Random, "randrange", counted)
    for shared in (0, 16):
        candidate_pool = CandidatePool(pool, 0, shared)
        drawn.clear()
        assert len({row.id for row in islice(candidate_pool.drawn(pool.rows[0]), 20)}) == 20 and len(drawn) < 30
