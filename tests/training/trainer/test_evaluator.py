"""Ranking metrics by hand, and the validation of an encoder."""

import math

import pytest
import torch
from sentence_transformers import SentenceTransformer

from udr.data import Pool, formatting
from udr_training.candidates import RankedExample, ndcg, rank_candidates, reciprocal_rank
from udr_training.config import TrainConfig
from udr_training.trainer import RankValidation, TaskExamples, split


def validation(pool: Pool, scores: dict[str, float]) -> RankValidation:
    """Validation by the candidates of the pool's first row."""
    return RankValidation({"reviews": TaskExamples(pool, (), (rank_candidates(pool.rows[0].id, scores),))})


def test_ndcg_and_reciprocal_rank_by_hand() -> None:
    # Gains 1/2, 1, 1/3 at positions 1, 2, 3; the best order has 1, 1/2, 1/3.
    dcg = 1 / 2 + 1 / math.log2(3) + 1 / 3 / 2
    best = 1 + 1 / 2 / math.log2(3) + 1 / 3 / 2
    assert ndcg([2, 1, 3]) == pytest.approx(dcg / best)
    assert ndcg([1, 2, 3]) == ndcg([1, 1, 1]) == ndcg([1, 2, 9, 8], cut=2) == 1
    assert ndcg([9, 8, 1, 2], cut=2) == pytest.approx((1 / 9 + 1 / 8 / math.log2(3)) / (1 + 1 / 2 / math.log2(3)))
    assert (reciprocal_rank([3, 1, 1, 4]), reciprocal_rank([1, 2])) == (1 / 2, 1)


@pytest.mark.parametrize(("share", "count", "training"), [(0.2, 10, 8), (1.0, 2, 1), (0.0, 10, 10)])
def test_the_last_examples_are_for_validation(pools: dict[str, Pool], share: float, count: int, training: int) -> None:
    examples = tuple(RankedExample(f"q{number}", (), ()) for number in range(count))
    task = split(pools["reviews"], examples, TrainConfig(validation=share))
    assert (task.training, task.validation) == (examples[:training], examples[training:])


def test_validation_compares_the_encoders_order_with_the_scores(
    pools: dict[str, Pool], model: SentenceTransformer
) -> None:
    pool = pools["reviews"]
    query = model.encode_query([formatting.row_query(pool.task, pool.rows[0])])
    texts = [formatting.encoder_demonstration(pool.task, row) for row in pool.rows[1:]]
    similarities = model.similarity(query, model.encode_document(texts))[0]
    scores = {row.id: float(value) for row, value in zip(pool.rows[1:], similarities, strict=True)}
    assert validation(pool, scores)(model) == {"ndcg_reviews": 1, "ndcg_mean": 1, "mrr_reviews": 1, "mrr_mean": 1}
    # Reversed, the best comes last.
    values = validation(pool, {id: -value for id, value in scores.items()})(model)
    assert values["mrr_reviews"] == pytest.approx(1 / len(scores)) and values["ndcg_mean"] < 0.5
    assert RankValidation({"reviews": TaskExamples(pool, ())}).tasks == {}


def test_equal_similarities_are_ordered_by_id_not_by_score(
    pools: dict[str, Pool], model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "similarity", lambda queries, documents: torch.zeros(len(queries), len(documents)))
    pool = pools["reviews"]
    # The last by id has the best score.
    ids = sorted(row.id for row in pool.rows[1:])
    values = validation(pool, {id: float(number) for number, id in enumerate(ids)})(model)
    assert values["mrr_mean"] == pytest.approx(1 / len(ids))
