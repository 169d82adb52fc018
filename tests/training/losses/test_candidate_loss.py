"""The losses as a module: what it makes of vectors and labels, by hand, and over a large batch in little memory."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses import uses_gradient_cache
from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss
from torch import Tensor

from udr_training.losses import CandidateLoss, in_batch_loss, kl_loss, lambda_loss, listwise_loss, ranks_of

RANDOM = torch.Generator().manual_seed(0)
QUERIES, CANDIDATES = torch.randn(3, 4, generator=RANDOM), torch.randn(3, 5, 4, generator=RANDOM)
SCORES = torch.rand(3, 5, generator=RANDOM)
# All texts are different.
LABELS = torch.cat([SCORES, torch.arange(15).view(3, 5), torch.arange(100, 103)[:, None]], dim=1)


def loss_of(kind: str = "udr", **settings: Any) -> CandidateLoss:
    return CandidateLoss(torch.nn.Identity(), kind, **settings)  # type: ignore[arg-type]


def by_hand() -> tuple[Tensor, Tensor, Tensor]:
    """Return all similarities [3, 15], each query's own [3, 5], and the positives' columns."""
    whole = QUERIES @ CANDIDATES.flatten(0, 1).T
    own = torch.stack([whole[row, 5 * row : 5 * row + 5] for row in range(3)])
    return whole, own, torch.tensor([0, 5, 10]) + SCORES.argmax(dim=1)


@pytest.mark.parametrize(
    ("kind", "ranking"),
    [
        ("udr", lambda own: listwise_loss(own, ranks_of(SCORES))),
        ("lambda", lambda own: lambda_loss(own, ranks_of(SCORES))),
        ("kl", lambda own: kl_loss(own, SCORES, 0.1)),
    ],
)
def test_the_ranking_loss_and_the_contrast_add_up_by_weight(kind: str, ranking: Any) -> None:
    whole, own, positives = by_hand()
    expected = 0.8 * ranking(own) + 0.2 * in_batch_loss(whole, positives, torch.zeros(3, 15).bool())
    loss = loss_of(kind, temperature=None).compute_loss_from_embeddings(QUERIES, CANDIDATES, LABELS)
    torch.testing.assert_close(loss, expected)


def test_epr_contrasts_best_and_worst_alone() -> None:
    whole, _, _ = by_hand()
    best, worst = SCORES.argmax(dim=1), SCORES.argmin(dim=1)
    columns = [5 * row + int(place) for row in range(3) for place in (best[row], worst[row])]
    expected = torch.nn.functional.cross_entropy(whole[:, columns], torch.tensor([0, 2, 4]))
    loss = loss_of("epr", temperature=None).compute_loss_from_embeddings(QUERIES, CANDIDATES, LABELS)
    torch.testing.assert_close(loss, expected)


def test_candidates_that_score_near_the_best_are_no_negatives_of_their_own_query() -> None:
    whole, _, positives = by_hand()
    masked = torch.zeros(3, 15).bool()
    for row in range(3):
        for place in range(5):
            column = 5 * row + place
            masked[row, column] = bool(SCORES[row, place] >= SCORES[row].max() - 0.4) and column != positives[row]
    assert masked.any() and not masked.all()
    loss = loss_of(temperature=None, ranking_weight=0.0, score_margin=0.4)
    found = loss.compute_loss_from_embeddings(QUERIES, CANDIDATES, LABELS)
    torch.testing.assert_close(found, in_batch_loss(whole, positives, masked))


def test_cosines_are_divided_by_the_temperature() -> None:
    queries, candidates = torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 1.0]])
    expected = torch.tensor([[math.sqrt(0.5) / 0.05]])
    torch.testing.assert_close(loss_of(temperature=0.05).similarities(queries, candidates), expected)


def test_labels_of_another_width_and_keys_that_float32_cannot_tell_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="scores, candidate keys, query key"):
        loss_of().compute_loss_from_embeddings(torch.zeros(2, 4), torch.zeros(2, 3, 4), torch.zeros(2, 3))
    large = LABELS.clone()
    large[0, 5] = 2**24 + 2
    with pytest.raises(ValueError, match="keys must be below 16777216, found 16777218"):
        loss_of().compute_loss_from_embeddings(QUERIES, CANDIDATES, large)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_refused(value: float) -> None:
    labels = LABELS.clone()
    labels[1, 2] = value
    with pytest.raises(ValueError, match="labels must be finite"):
        loss_of().compute_loss_from_embeddings(QUERIES, CANDIDATES, labels)


def test_autocast_does_not_round_similarities() -> None:
    queries, candidates = QUERIES, CANDIDATES.flatten(0, 1)
    expected = loss_of().similarities(queries, candidates)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss_of().similarities(queries, candidates)
    torch.testing.assert_close(found, expected, atol=0, rtol=0)
    assert loss_of().similarities(queries.bfloat16(), candidates.bfloat16()).dtype == torch.float32


def test_a_gradient_cache_is_known_to_the_losses_that_wrap_others(encoder_folder: Path) -> None:
    model = SentenceTransformer(str(encoder_folder), device="cpu")
    assert uses_gradient_cache(CandidateLoss(model, mini_batch=4)) and not uses_gradient_cache(CandidateLoss(model))
    # Better no training than a wrong one.
    with pytest.raises(AttributeError, match="calculate_loss"):
        MatryoshkaLoss(model, CandidateLoss(model, mini_batch=4), [32, 16])


def test_matryoshka_loss_adds_up_the_dimensions(encoder_folder: Path) -> None:
    model = SentenceTransformer(str(encoder_folder), device="cpu").eval()
    columns = [model.preprocess(texts) for texts in (QUERY_TEXTS, *CANDIDATE_TEXTS)]
    vectors = torch.stack([model(dict(column))["sentence_embedding"] for column in columns], dim=1)
    expected = sum(
        CandidateLoss(model).compute_loss_from_embeddings(vectors[:, 0, :size], vectors[:, 1:, :size], TEXT_LABELS)
        for size in (32, 16)
    )
    torch.testing.assert_close(MatryoshkaLoss(model, CandidateLoss(model), [32, 16])(columns, TEXT_LABELS), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0, found 0.0"),
        ({"ranking_weight": 1.5}, r"ranking_weight must be in \[0, 1\], found 1.5"),
        ({"kind": "none"}, "loss must be one of udr, lambda, epr, kl; found 'none'"),
        ({"score_margin": -1.0}, "at least 0, found -1.0 and 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loss_of(**settings)


QUERY_TEXTS = ["which colour", "how many", "who was it that came", "why"]
CANDIDATE_TEXTS = [
    ["red and blue", "seven", "a man", "because"],
    ["a much longer text about nothing in particular", "8", "nobody at all", "so"],
    ["green", "nine of them, or ten", "they", "for some reason"],
]
TEXT_LABELS = torch.cat(
    [torch.rand(4, 3, generator=RANDOM), torch.arange(12).view(4, 3), torch.arange(100, 104)[:, None]], dim=1
)


def gradients(model: SentenceTransformer, mini_batch: int, kind: str = "udr") -> tuple[float, list[Tensor]]:
    model.zero_grad()
    columns = [model.preprocess(texts) for texts in (QUERY_TEXTS, *CANDIDATE_TEXTS)]
    loss = CandidateLoss(model, kind, mini_batch=mini_batch)(columns, TEXT_LABELS)
    # As the trainer may: scaled.
    (loss * 0.5).backward()
    found = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    return float(loss.detach()), found


@pytest.mark.parametrize("mini_batch", [1, 5, 100])
@pytest.mark.parametrize("kind", ["udr", "epr"])
def test_a_mini_batch_changes_neither_loss_nor_gradients(encoder_folder: Path, mini_batch: int, kind: str) -> None:
    model = SentenceTransformer(str(encoder_folder), device="cpu").eval()
    loss, expected = gradients(model, 0, kind)
    found, cached = gradients(model, mini_batch, kind)
    assert found == pytest.approx(loss, abs=1e-5)
    for one, other in zip(cached, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_both_passes_have_the_same_dropout(encoder_folder: Path) -> None:
    model = SentenceTransformer(str(encoder_folder), device="cpu").train()
    seen: list[Tensor] = []
    handle = model.register_forward_hook(lambda _m, _i, out: seen.append(out["sentence_embedding"].detach()))
    gradients(model, 4)
    handle.remove()
    # One pass of queries and three of candidates, each twice.
    assert len(seen) == 8
    for first, second in zip(seen[:4], seen[4:], strict=True):
        torch.testing.assert_close(first, second, atol=0, rtol=0)
    assert not torch.equal(seen[0], model.eval()(model.preprocess(QUERY_TEXTS))["sentence_embedding"])


def test_both_passes_have_the_same_precision(encoder_folder: Path) -> None:
    model = SentenceTransformer(str(encoder_folder), device="cpu").eval()
    seen: list[torch.dtype] = []
    layer = next(module for module in model.modules() if isinstance(module, torch.nn.Linear))
    handle = layer.register_forward_hook(lambda _m, _i, out: seen.append(out.dtype))
    columns = [model.preprocess(texts) for texts in (QUERY_TEXTS, *CANDIDATE_TEXTS)]
    with torch.autocast("cpu", torch.bfloat16):
        loss = CandidateLoss(model, mini_batch=4)(columns, TEXT_LABELS)
    loss.backward()
    handle.remove()
    assert len(seen) == 8 and set(seen) == {torch.bfloat16}


def test_gradients_under_autocast_are_as_near_in_mini_batches_as_at_once(encoder_folder: Path) -> None:
    model = SentenceTransformer(str(encoder_folder), device="cpu").eval()
    _, exact = gradients(model, 0)

    def off(mini_batch: int) -> float:
        with torch.autocast("cpu", torch.bfloat16):
            _, found = gradients(model, mini_batch)
        whole, own = (torch.cat([part.flatten() for part in parts]) for parts in (exact, found))
        return 1 - float(torch.nn.functional.cosine_similarity(whole, own, dim=0))

    assert off(4) < 2 * off(0) + 1e-3


def test_no_pass_is_larger_than_the_mini_batch(encoder_folder: Path) -> None:
    model = SentenceTransformer(str(encoder_folder), device="cpu")
    seen: list[int] = []
    handle = model.register_forward_pre_hook(lambda _m, inputs: seen.append(len(inputs[0]["input_ids"])))
    gradients(model, 5)
    handle.remove()
    assert max(seen) == 5 and sum(seen) == 2 * 16


def test_nothing_is_cached_without_gradients(encoder_folder: Path) -> None:
    model = SentenceTransformer(str(encoder_folder), device="cpu").eval()
    columns = [model.preprocess(texts) for texts in (QUERY_TEXTS, *CANDIDATE_TEXTS)]
    with torch.no_grad():
        cached, plain = (CandidateLoss(model, mini_batch=size)(columns, TEXT_LABELS) for size in (2, 0))
    torch.testing.assert_close(cached, plain)
