"""Fitting a task's label head.

A logistic regression tells a query's label from its vector, or from those of its two fields. It is fitted on rows of
the pool as the encoder reads queries: as demonstrations, their texts give the label away. Cross-validation searches
the other folds' demonstrations for each held-out row, and counts how many of the four first have its label; by this it
chooses how strongly the regression is regularised, how much it counts, and whether it reads fields apart.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udr.data import Kind, encoder_fields, sample_by
from udr.search import LabelHead, Vectors, fit_weights, folds_of, head_features, label_chances
from udr.store import MOST_LABELS, LabelHeadStamp, Partition

RECIPE, FIELDS_RECIPE = 1, 3
"""The version of this procedure, without and with fields apart; part of the name of an index version that followed it.
"""

FEWEST_ROWS = 100
"""The smallest pool that is considered unless a head is asked for."""

_MOST_ROWS = 4096
"""Rows that are encoded as queries and fitted on."""
_VALIDATED, _VALIDATED_NUMBERS = 2048, 1 << 18
"""Rows that cross-validation uses, and rows times labels: fewer rows if there are many labels."""

_FOLDS, _SHOWN = 5, 4
_SPREAD = 256
"""Rows and demonstrations whose similarities tell their spread."""
_STRENGTHS, _FIELD_STRENGTHS = (1.0, 10.0, 100.0), (0.1, 1.0, 10.0)
"""Values of C to try. Features of two fields are twice as long, so their weights are smaller for the same odds."""
_WEIGHTS = (2.0, 4.0, 8.0, 16.0)
"""Values of alpha to try, in standard deviations of the similarities, whose spread depends on the encoder."""

_LEAST_GAIN = 0.01
"""A gain counts if it is at least this, and a number of its standard errors."""
_ERRORS, _FIELD_ERRORS = 3.0, 2.0
"""That number for a head beside none, and for fields apart beside a head of the whole query. A head is the best of
several settings, which inflates its gain over none; both kinds of heads are the best of as many.
"""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted head, its description, and whether cross-validation shows a gain."""

    head: LabelHead
    stamp: LabelHeadStamp
    gains: bool


def considered(part: Partition, wanted: bool | None) -> bool:
    """Return whether a build tries to fit a head, from what is known before anything is encoded."""
    return part.task.kind is Kind.CLASSIFICATION and (
        wanted is True or (wanted is None and part.count >= FEWEST_ROWS and len(part.task.labels) <= MOST_LABELS)
    )


def fields_apart(part: Partition) -> tuple[str, ...]:
    """Return the two fields that a head may read apart; none if the encoder reads another number of fields."""
    names = encoder_fields(part.task)
    return names if len(names) == 2 else ()


def rows_to_fit(count: int) -> NDArray[np.int64]:
    """Return the positions of the rows to fit on, of a pool's, ordered by a hash."""
    return np.array(sample_by(range(count), min(count, _MOST_ROWS), 0, str), np.int64)


def fit(
    queries: Vectors,
    positions: NDArray[np.int64],
    vectors: NDArray[np.floating],
    labels: Sequence[str],
    width: Callable[[int], int] = lambda labels: labels,
    fields: tuple[tuple[str, ...], Callable[[], Vectors]] | None = None,
) -> Fitted | None:
    """Fit a head; None if fewer than two labels have rows enough to cross-validate, or if there are too many labels.

    Args:
        queries: the vectors of rows as queries, float32 [num_rows, dimension].
        positions: those rows' positions in the pool, [num_rows].
        vectors: the pool's vectors, [count, dimension].
        labels: the pool's labels, by position.
        width: returns the number of dimensions to append for a number of labels.
        fields: the names of two fields, and what returns their vectors as queries, float32 [num_rows, 2, dimension];
            called only if a gain is possible. The head reads them apart if it gains by that.
    """
    targets = np.array([labels[position] for position in positions])
    names = np.unique(targets)
    first = slice(0, min(_VALIDATED, _VALIDATED_NUMBERS // len(names)))
    _, counts = np.unique(targets[first], return_counts=True)
    # Two rows of a label are in different folds, so each training has two labels at least.
    if len(names) > MOST_LABELS or (counts >= 2).sum() < 2 or len(targets) < 2 * _FOLDS:
        return None
    similarities = queries[first] @ vectors[positions[first]].astype(np.float32).T
    without, best = _validate(head_features(queries), similarities, targets[first], names, _STRENGTHS)
    apart: tuple[str, ...] = ()
    if fields is not None and best.shares.mean() <= 1 - _LEAST_GAIN:
        _, by_fields = _validate(
            head_features(queries, fields[1]()), similarities, targets[first], names, _FIELD_STRENGTHS
        )
        if _gains(by_fields.shares - best.shares, _FIELD_ERRORS):
            best, apart = by_fields, fields[0]
    weights = fit_weights(best.features, targets, names, best.strength)
    known = {name: code for code, name in enumerate(names.tolist())}
    codes = np.array([known.get(label, -1) for label in labels], np.int32)
    head = LabelHead(weights, codes, best.alpha, width(len(names)), apart)
    stamp = LabelHeadStamp(
        labels=tuple(names.tolist()),
        alpha=best.alpha,
        width=head.width,
        strength=best.strength,
        rows=len(positions),
        share_without=round(float(without.mean()), 4),
        share=round(float(best.shares.mean()), 4),
        fields=apart,
    )
    return Fitted(head, stamp, _gains(best.shares - without))


def _gains(differences: NDArray[np.float64], errors: float = _ERRORS) -> bool:
    """Return whether differences of shares, by row, are a gain and no chance."""
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    return bool(differences.mean() >= max(_LEAST_GAIN, errors * error))


@dataclass(frozen=True, slots=True, eq=False)
class _Best:
    """The best settings for some features, [num_rows, num_features], and the shares of the rows of cross-validation."""

    features: NDArray[np.float64]
    strength: float
    alpha: float
    shares: NDArray[np.float64]


def _validate(
    features: NDArray[np.float64],
    similarities: NDArray[np.floating],
    targets: NDArray[np.str_],
    names: NDArray[np.str_],
    strengths: Sequence[float],
) -> tuple[NDArray[np.float64], _Best]:
    """Return the shares of each row without a head, and the best head.

    ``similarities`` [num_validated, num_validated] and ``targets`` [num_validated] are of the first rows.
    """
    folds, rows = folds_of(targets, _FOLDS), features[: len(targets)]
    spread = float(np.std(similarities[:_SPREAD, :_SPREAD]))
    alphas = [float(f"{max(spread, 1e-6) * weight:.3g}") for weight in _WEIGHTS]
    shares = {(c, alpha): np.empty(len(targets)) for c in strengths for alpha in alphas}
    without = np.empty(len(targets))
    codes = np.searchsorted(names, targets).astype(np.int32)
    for fold in range(_FOLDS):
        held, rest = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        own, pool, similar = codes[held], codes[rest], similarities[np.ix_(held, rest)]
        without[held] = _shares(similar, own, pool)
        for c in strengths:
            likely = label_chances(fit_weights(rows[rest], targets[rest], names, c), rows[held])[:, pool]
            for alpha in alphas:
                shares[c, alpha][held] = _shares(similar + alpha * likely, own, pool)
    # Of equal ones the first: the strongest regularisation, the smallest alpha.
    best = max(shares, key=lambda key: shares[key].mean())
    return without, _Best(features, *best, shares[best])


def _shares(scores: NDArray[np.floating], own: NDArray[np.int32], codes: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return, for each query, the share of the first rows by their scores, [num_queries, num_rows], with its label."""
    k = min(_SHOWN, scores.shape[1])
    best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    result: NDArray[np.float64] = (codes[best] == own[:, None]).mean(axis=1)
    return result
