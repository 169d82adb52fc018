"""How an order of candidates is judged, by hand; and an encoder by the orders that it gives."""

import math
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from udr.data import Pool, formatting
from udr_training.candidates import RankedExample, ndcg, rank_candidates, reciprocal_rank
from udr_training.config import TrainConfig
from udr_training.trainer import RankValidation, TaskExamples, split


def test_ndcg_of_three_candidates_by_hand() -> None:
    # Gains 1/2, 1, 1/3 at places 1, 2, 3; the best order has 1, 1/2, 1/3.
    found = 1 / 2 + 1 / math.log2(3) + 1 / 3 / 2
    best = 1 + 1 / 2 / math.log2(3) + 1 / 3 / 2
    assert ndcg([2, 1, 3]) == pytest.approx(found / best)
    assert ndcg([1, 2, 3]) == ndcg([1, 1, 1]) == 1


def test_ndcg_counts_the_first_places_alone() -> None:
    assert ndcg([1, 2, 9, 8], cut=2) == 1
    assert ndcg([9, 8, 1, 2], cut=2) == pytest.approx((1 / 9 + 1 / 8 / math.log2(3)) / (1 + 1 / 2 / math.log2(3)))


def test_reciprocal_rank_is_of_the_first_that_none_scores_above() -> None:
    assert reciprocal_rank([3, 1, 1, 4]) == 1 / 2
    assert reciprocal_rank([1, 2]) == 1


def test_the_last_examples_are_watched_and_one_at_least_is_learned(pools: dict[str, Pool]) -> None:
    examples = [RankedExample(f"q{number}", (), ()) for number in range(10)]
    cut = split(pools["reviews"], examples, TrainConfig(validation=0.2))
    assert [example.query_id for example in cut.watched] == ["q8", "q9"] and len(cut.learned) == 8
    assert len(split(pools["reviews"], examples[:2], TrainConfig(validation=1.0)).learned) == 1
    assert split(pools["reviews"], examples, TrainConfig(validation=0.0)).watched == ()


def test_an_encoder_is_judged_by_its_own_order(pools: dict[str, Pool], encoder_folder: Path) -> None:
    model = SentenceTransformer(str(encoder_folder), device="cpu")
    pool = pools["reviews"]
    first, *others = [row.id for row in pool.rows]
    validation = RankValidation(
        {"reviews": TaskExamples(pool, (), (RankedExample(first, (), ()),)), "none": TaskExamples(pool, ())}
    )
    assert list(validation.tasks) == ["reviews"]

    def judged(scores: dict[str, float]) -> dict[str, float]:
        return RankValidation({"reviews": TaskExamples(pool, (), (rank_candidates(first, scores),))})(model)

    # Scores that are the encoder's own similarities are met exactly; turned around, the best comes last.
    rows = {row.id: row for row in pool.rows}
    query = model.encode_query([formatting.row_query(pool.task, rows[first])])
    documents = model.encode_document([formatting.encoder_demonstration(pool.task, rows[id]) for id in others])
    own = {id: float(value) for id, value in zip(others, model.similarity(query, documents)[0], strict=True)}
    values = judged(own)
    assert values == {"ndcg_reviews": 1, "ndcg_mean": 1, "mrr_reviews": 1, "mrr_mean": 1}
    turned = judged({id: -value for id, value in own.items()})
    assert turned["mrr_reviews"] == pytest.approx(1 / len(others)) and turned["ndcg_mean"] < 0.5


def test_what_is_equally_near_does_not_stand_in_the_order_of_its_scores(
    pools: dict[str, Pool], encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "udr_training.trainer.evaluator._similarities", lambda _model, _queries, texts: np.zeros((1, len(texts)))
    )
    first, *others = sorted(row.id for row in pools["reviews"].rows)
    # The last by id has the best score.
    example = rank_candidates(first, {id: float(number) for number, id in enumerate(others)})
    values = RankValidation({"reviews": TaskExamples(pools["reviews"], (), (example,))})(
        SentenceTransformer(str(encoder_folder), device="cpu")
    )
    assert values["mrr_mean"] == pytest.approx(1 / len(others))
