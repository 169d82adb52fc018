"""The oracle shows what the language model itself finds best; it reads the gold."""

from pathlib import Path

import pytest

from tests.training.copy_lm import CopyLM
from udr.data import Pool, open_collection
from udr.types import Row
from udr_training.candidates import CandidatePool, first_neighbours, propose
from udr_training.evaluation import EvaluationConfig, Oracle, evaluate, predict

CONFIG = EvaluationConfig(retrievers=("oracle",), shots=(2,), oracle_candidates=6)


def queries(pool: Pool) -> list[Row]:
    return [Row(id=f"q{number}", input=row.input, target=row.target) for number, row in enumerate(pool.rows[:8])]


def test_best_candidates_come_first_and_are_those_that_training_would_propose(pools: dict[str, Pool]) -> None:
    pool = pools["reviews"]
    asked = queries(pool)
    proposed = propose(CandidatePool(pool, 0), asked, first_neighbours(pool), 6, 0.5)
    for query, shown in zip(asked, Oracle(CopyLM(), CONFIG).demonstrations(pool, asked, 6), strict=True):
        assert {row.id for row in shown} == set(proposed[query.id]) and len(shown) == 6
        # The model copies the last target, so candidates with the gold one score 1, all others 0; ties by id.
        right = [row.target == query.target for row in shown]
        assert right == sorted(right, reverse=True)
        for group in (True, False):
            ids = [row.id for row, is_right in zip(shown, right, strict=True) if is_right == group]
            assert ids == sorted(ids)


def test_it_is_the_headroom_of_its_candidates(pools: dict[str, Pool]) -> None:
    for name in ("reviews", "colours"):
        pool = pools[name]
        asked = [Row(id=row.id, input=row.input, target=row.target, choices=row.choices) for row in pool.rows]
        shown = Oracle(CopyLM(), CONFIG).demonstrations(pool, asked, 2)
        answers = predict(CopyLM(), pool, asked, shown)
        reachable = [query.target in {row.target for row in rows} for query, rows in zip(asked, shown, strict=True)]
        assert [answer == query.target for answer, query in zip(answers, asked, strict=True)] == reachable
        assert sum(reachable) > 0.9 * len(asked)


def test_a_query_and_its_copies_are_no_candidates(pools: dict[str, Pool]) -> None:
    pool = pools["reviews"]
    for query, rows in zip(queries(pool), Oracle(CopyLM(), CONFIG).demonstrations(pool, queries(pool), 6), strict=True):
        assert query.input not in [row.input for row in rows]


@pytest.mark.parametrize("context", [0, 1])
def test_scores_are_kept_and_not_computed_again(pools: dict[str, Pool], tmp_path: Path, context: int) -> None:
    pool, lm = pools["reviews"], CopyLM()
    config = EvaluationConfig(retrievers=("oracle",), oracle_candidates=6, oracle_context=context)
    one = Oracle(lm, config, tmp_path / "scores.sqlite").demonstrations(pool, queries(pool), 2)
    assert lm.scored == 8 * 6
    assert Oracle(lm, config, tmp_path / "scores.sqlite").demonstrations(pool, queries(pool), 2) == one
    assert lm.scored == 8 * 6


def test_its_scores_serve_all_numbers_of_demonstrations(tasks: Path) -> None:
    lm = CopyLM()
    config = EvaluationConfig(retrievers=("oracle",), shots=(0, 1, 2), oracle_candidates=6)
    evaluation = evaluate(open_collection(tasks, ["reviews"]), lm, config)
    assert lm.scored == 4 * 6 and lm.asked == 3 * 4
    assert evaluation.value("oracle", 1).value == evaluation.value("oracle", 2).value == 100
