"""The oracle shows the candidates with the language model's highest scores, which depend on the gold answers."""

from pathlib import Path

import pytest

from tests.training.copy_lm import CopyLM
from udr.data import Pool, open_collection
from udr.types import Row
from udr_training.candidates import CandidatePool, first_neighbours, propose
from udr_training.evaluation import EvaluationConfig, Oracle, evaluate, predict


def copies(pool: Pool) -> list[Row]:
    return [Row(id=f"q{number}", input=row.input, target=row.target) for number, row in enumerate(pool.rows[:8])]


def test_best_candidates_come_first_and_are_those_of_training(reviews: Pool) -> None:
    pool = reviews
    queries = copies(pool)
    proposed = propose(CandidatePool(pool, 0), queries, first_neighbours(pool), 6, 0.5)
    for query, best in zip(queries, Oracle(lambda _: CopyLM(), 6).demonstrations(pool, queries, 6), strict=True):
        shown = best.rows
        assert best.prompt(range(2)) == [shown[1], shown[0]]
        assert {row.id for row in shown} == set(proposed[query.id]) and len(shown) == 6
        # The model copies the last target: candidates with the gold one score 1, all others 0; ties by id.
        order = [(row.target != query.target, row.id) for row in shown]
        assert order == sorted(order)
        assert query.input not in [row.input for row in shown]


@pytest.mark.parametrize("name", ["reviews", "colours"])
def test_answers_are_right_if_a_candidate_can_make_them_right(pools: dict[str, Pool], name: str) -> None:
    pool = pools[name]
    shown = Oracle(lambda _: CopyLM(), 6).demonstrations(pool, pool.rows, 2)
    prompts = [item.prompt(range(2)) for item in shown]
    answers = [answer.text for answer in predict(CopyLM(), pool, pool.rows, shown, 2)]
    reachable = [query.target in {row.target for row in rows} for query, rows in zip(pool.rows, prompts, strict=True)]
    assert [answer == query.target for answer, query in zip(answers, pool.rows, strict=True)] == reachable
    assert sum(reachable) > 0.9 * len(pool)


@pytest.mark.parametrize("context", [0, 1])
def test_stored_scores_are_reused(pools: dict[str, Pool], tmp_path: Path, context: int) -> None:
    pool, lm = pools["reviews"], CopyLM()
    oracle = Oracle(lambda _: lm, 6, context, scores=tmp_path / "scores.sqlite")
    first, again = (oracle.demonstrations(pool, copies(pool), 2) for _ in range(2))
    assert first == again and lm.scored == 8 * 6


def test_all_numbers_of_demonstrations_share_the_scores(tasks: Path) -> None:
    lm = CopyLM()
    config = EvaluationConfig(retrievers=("oracle",), shots=(0, 1, 2), oracle_candidates=6)
    evaluation = evaluate(open_collection(tasks, ["reviews"]), lm, config)
    assert lm.scored == 4 * 6 and lm.asked == 3 * 4
    assert evaluation.value("oracle", 1).value == evaluation.value("oracle", 2).value == 100
