"""``CandidateLoss`` against values computed by hand, and its gradient cache against the loss without one."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses import uses_gradient_cache
from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss, MultipleNegativesRankingLoss
from torch import Tensor

from udr_training.losses import (
    CandidateLoss,
    in_batch_loss,
    kl_loss,
    lambda_loss,
    listwise_loss,
    margin_mse_loss,
    ranks_of,
)

RANDOM = torch.Generator().manual_seed(0)
QUERIES, CANDIDATES = torch.randn(3, 4, generator=RANDOM), torch.randn(3, 5, 4, generator=RANDOM)
SCORES = torch.rand(3, 5, generator=RANDOM)
# All texts are different.
LABELS = torch.cat([SCORES, torch.arange(15).view(3, 5), torch.arange(100, 103)[:, None]], dim=1)

SIMILARITIES = QUERIES @ CANDIDATES.flatten(0, 1).T
OWN = torch.stack([SIMILARITIES[row, 5 * row : 5 * row + 5] for row in range(3)])
POSITIVES = torch.tensor([0, 5, 10]) + SCORES.argmax(dim=1)


def loss_value(kind: str = "udr", labels: Tensor = LABELS, **settings: Any) -> Tensor:
    loss = CandidateLoss(torch.nn.Identity(), kind, **{"temperature": None, **settings})  # type: ignore[arg-type]
    return loss.compute_loss_from_embeddings(QUERIES, CANDIDATES, labels)


@pytest.mark.parametrize(
    ("kind", "ranking"),
    [
        ("udr", lambda: listwise_loss(OWN, ranks_of(SCORES))),
        ("lambda", lambda: lambda_loss(OWN, ranks_of(SCORES))),
        ("kl", lambda: kl_loss(OWN, SCORES, 0.1)),
        ("margin_mse", lambda: margin_mse_loss(OWN, SCORES, 0.1)),
    ],
)
def test_loss_is_the_weighted_sum_of_ranking_and_contrast(kind: str, ranking: Callable[[], Tensor]) -> None:
    expected = 0.8 * ranking() + 0.2 * in_batch_loss(SIMILARITIES, POSITIVES, torch.zeros(3, 15).bool())
    torch.testing.assert_close(loss_value(kind), expected)


def test_epr_contrasts_only_best_and_worst() -> None:
    best, worst = SCORES.argmax(dim=1), SCORES.argmin(dim=1)
    columns = [5 * row + int(position) for row in range(3) for position in (best[row], worst[row])]
    expected = torch.nn.functional.cross_entropy(SIMILARITIES[:, columns], torch.tensor([0, 2, 4]))
    torch.testing.assert_close(loss_value("epr"), expected)


def test_mnrl_contrasts_only_the_best() -> None:
    expected = torch.nn.functional.cross_entropy(SIMILARITIES[:, POSITIVES], torch.arange(3))
    torch.testing.assert_close(loss_value("mnrl"), expected)
    # The library's own loss, of cosines.
    model = SentenceTransformer(modules=[torch.nn.Identity()], device="cpu")
    best = CANDIDATES[range(3), SCORES.argmax(dim=1)]
    library = MultipleNegativesRankingLoss(model, scale=20.0).compute_loss_from_embeddings([QUERIES, best], LABELS)
    torch.testing.assert_close(loss_value("mnrl", temperature=0.05), library)


def test_own_candidates_within_the_score_margin_are_not_negatives() -> None:
    near = SCORES >= SCORES.max(dim=1, keepdim=True).values - 0.4
    masked = torch.zeros(3, 3, 5).bool()
    masked[range(3), range(3)] = near
    masked = masked.view(3, 15).scatter(1, POSITIVES[:, None], False)
    assert masked.any() and not masked.all()
    expected = in_batch_loss(SIMILARITIES, POSITIVES, masked)
    torch.testing.assert_close(loss_value(ranking_weight=0.0, score_margin=0.4), expected)


@pytest.mark.parametrize("kind", ["udr", "epr", "mnrl"])
def test_candidates_with_the_target_of_the_best_are_not_negatives(kind: str) -> None:
    targets = torch.tensor([[0, 1, 0, 1, 0], [1, 1, 0, 0, 2], [2, 0, 1, 2, 0]])
    best = SCORES.argmax(dim=1)
    alike = targets.flatten()[None] == targets[range(3), best][:, None]
    used = torch.ones(3, 5, dtype=torch.bool)
    if kind == "epr":
        used = torch.zeros(3, 5).scatter(1, torch.stack([best, SCORES.argmin(dim=1)], 1), 1).bool()
    elif kind == "mnrl":
        used = torch.zeros(3, 5).scatter(1, best[:, None], 1).bool()
    masked = (alike | ~used.flatten()[None]).scatter(1, POSITIVES[:, None], False)
    assert alike.sum() > 6, "more than the positives alone"
    expected = in_batch_loss(SIMILARITIES, POSITIVES, masked)
    if kind == "udr":
        expected = 0.8 * listwise_loss(OWN, ranks_of(SCORES)) + 0.2 * expected
    torch.testing.assert_close(loss_value(kind, torch.cat([LABELS, targets], dim=1)), expected)


@pytest.mark.parametrize(
    ("kind", "settings", "rows", "targets"),
    [("mnrl", {}, 1, False), ("mnrl", {}, 3, True), ("epr", {"score_margin": 9.0}, 1, False)],
)
def test_a_batch_without_negatives_is_told_once(
    kind: str, settings: dict[str, Any], rows: int, targets: bool, caplog: pytest.LogCaptureFixture
) -> None:
    loss = CandidateLoss(torch.nn.Identity(), kind, None, **settings)  # type: ignore[arg-type]
    loss.compute_loss_from_embeddings(QUERIES, CANDIDATES, LABELS)
    assert not caplog.messages
    # With targets, all candidates have the same one.
    labels = torch.cat([LABELS, torch.zeros(3, 5)], dim=1) if targets else LABELS
    for _ in range(2):
        assert loss.compute_loss_from_embeddings(QUERIES[:rows], CANDIDATES[:rows], labels[:rows]) == 0
    (message,) = caplog.messages
    assert message.startswith("no query of a batch has a negative, so its in-batch loss is 0 and teaches nothing; ")


def test_similarities_are_cosines_over_temperature_in_full_precision() -> None:
    loss = CandidateLoss(torch.nn.Identity(), temperature=0.05)  # type: ignore[arg-type]
    queries, candidates = torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 1.0]])
    torch.testing.assert_close(loss.similarities(queries, candidates), torch.tensor([[math.sqrt(0.5) / 0.05]]))
    queries, candidates = QUERIES, CANDIDATES.flatten(0, 1)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss.similarities(queries, candidates)
    torch.testing.assert_close(found, loss.similarities(queries, candidates), atol=0, rtol=0)
    assert loss.similarities(queries.bfloat16(), candidates.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (5, 2**24 + 2, "keys must be below 16777216, found 16777218"),
        (2, math.nan, "labels must be finite"),
        (2, math.inf, "labels must be finite"),
        (2, -math.inf, "labels must be finite"),
    ],
)
def test_invalid_labels_are_rejected(column: int, value: float, message: str) -> None:
    labels = LABELS.clone()
    labels[1, column] = value
    with pytest.raises(ValueError, match=message):
        loss_value(labels=labels)


def test_labels_of_another_width_are_rejected() -> None:
    with pytest.raises(ValueError, match="scores, candidate keys, query key"):
        loss_value(labels=LABELS[:, 1:])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0, found 0.0"),
        ({"ranking_weight": 1.5}, r"ranking_weight must be in \[0, 1\], found 1.5"),
        ({"kind": "none"}, "loss must be one of udr, lambda, epr, kl, margin_mse, mnrl; found 'none'"),
        ({"score_margin": -1.0}, "at least 0, found -1.0 and 0"),
    ],
)
def test_invalid_settings_are_rejected(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loss_value(**settings)


QUERY_TEXTS = ["which colour", "how many", "who was it that came", "why"]
CANDIDATE_TEXTS = [
    ["red and blue", "seven", "a man", "because"],
    ["a much longer text about nothing in particular", "8", "nobody at all", "so"],
    ["green", "nine of them, or ten", "they", "for some reason"],
]
TEXT_LABELS = torch.cat(
    [torch.rand(4, 3, generator=RANDOM), torch.arange(12).view(4, 3), torch.arange(100, 104)[:, None]], dim=1
)


def loss_of_texts(model: SentenceTransformer, mini_batch: int, kind: str = "udr") -> Tensor:
    columns = [model.preprocess(texts) for texts in (QUERY_TEXTS, *CANDIDATE_TEXTS)]
    return CandidateLoss(model, kind, mini_batch=mini_batch).forward(columns, TEXT_LABELS)


def loss_and_gradient(
    model: SentenceTransformer, mini_batch: int, kind: str = "udr", *, autocast: bool = False
) -> tuple[float, Tensor]:
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = loss_of_texts(model, mini_batch, kind)
    # Scaled, as the trainer may do.
    torch.autograd.backward(loss * 0.5)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return float(loss.detach()), torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.parametrize("mini_batch", [1, 5, 100])
@pytest.mark.parametrize("kind", ["udr", "epr"])
def test_mini_batches_change_neither_loss_nor_gradients(model: SentenceTransformer, mini_batch: int, kind: str) -> None:
    loss, gradient = loss_and_gradient(model, 0, kind)
    cached_loss, cached_gradient = loss_and_gradient(model, mini_batch, kind)
    assert cached_loss == pytest.approx(loss, abs=1e-5)
    torch.testing.assert_close(cached_gradient, gradient, atol=1e-5, rtol=1e-4)


def test_both_passes_have_the_same_dropout_and_no_more_than_the_mini_batch(model: SentenceTransformer) -> None:
    vectors: list[Tensor] = []
    handle = model.train().register_forward_hook(lambda _m, _i, out: vectors.append(out["sentence_embedding"].detach()))
    loss_and_gradient(model, 4)
    handle.remove()
    # One pass of queries and three of candidates, each twice.
    assert [len(batch) for batch in vectors] == [4] * 8
    torch.testing.assert_close(vectors[:4], vectors[4:], atol=0, rtol=0)
    assert not torch.equal(vectors[0], model.eval()(model.preprocess(QUERY_TEXTS))["sentence_embedding"])


def test_both_passes_have_the_same_precision_and_gradients_the_accuracy_of_those_at_once(
    model: SentenceTransformer,
) -> None:
    seen: list[torch.dtype] = []
    layer = next(module for module in model.modules() if isinstance(module, torch.nn.Linear))
    handle = layer.register_forward_hook(lambda _m, _i, out: seen.append(out.dtype))
    loss_and_gradient(model, 4, autocast=True)
    handle.remove()
    assert seen == [torch.bfloat16] * 8
    exact = loss_and_gradient(model, 0)[1]
    at_once, cached = (
        1 - float(torch.cosine_similarity(exact, loss_and_gradient(model, size, autocast=True)[1], dim=0))
        for size in (0, 4)
    )
    assert cached < 2 * at_once + 1e-3


def test_without_gradients_nothing_is_cached(model: SentenceTransformer) -> None:
    with torch.no_grad():
        torch.testing.assert_close(loss_of_texts(model, 2), loss_of_texts(model, 0))


def test_matryoshka_loss_adds_the_dimensions_and_rejects_a_gradient_cache(model: SentenceTransformer) -> None:
    columns = [model.preprocess(texts) for texts in (QUERY_TEXTS, *CANDIDATE_TEXTS)]
    vectors = torch.stack([model(dict(column))["sentence_embedding"] for column in columns], dim=1)
    plain, cached = CandidateLoss(model), CandidateLoss(model, mini_batch=4)
    expected = sum(
        plain.compute_loss_from_embeddings(vectors[:, 0, :size], vectors[:, 1:, :size], TEXT_LABELS)
        for size in (32, 16)
    )
    torch.testing.assert_close(MatryoshkaLoss(model, plain, [32, 16])(columns, TEXT_LABELS), expected)
    assert uses_gradient_cache(cached) and not uses_gradient_cache(plain)
    with pytest.raises(AttributeError, match="calculate_loss"):
        MatryoshkaLoss(model, cached, [32, 16])
