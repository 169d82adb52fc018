"""Fitting a task's label head.

A logistic regression tells a query's label from its vector, or from those of its two fields. It is fitted on rows of
the pool as the encoder reads queries: as demonstrations, their texts give the label away. For each held-out row,
cross-validation searches the pool, but for the demonstrations of the row's fold and its copies, and counts how many of
the four first have its label; by this it chooses how strongly the regression is regularised, how much it counts, and
whether it reads fields apart.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from udr.data import Kind, encoder_fields, sample_by
from udr.search import LabelHead, Vectors, fit_weights, folds_of, head_features, label_chances
from udr.store import MOST_LABELS, LabelHeadStamp, Partition

RECIPE, FIELDS_RECIPE = 6, 7
"""The version of this procedure, without and with fields apart; part of the name of an index version that followed it.
"""

FEWEST_ROWS = 100
"""The smallest pool that is considered unless a head is asked for."""

_MOST_ROWS = 4096
"""Rows that are encoded as queries and fitted on."""
_VALIDATED, _VALIDATED_NUMBERS = 2048, 1 << 18
"""Rows that cross-validation uses, and rows times labels: fewer rows if there are many labels."""

_FOLDS, _SHOWN = 5, 4
_NUMBERS = 1 << 24
"""Similarities computed at once."""
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
    copies: NDArray[np.int64],
    width: Callable[[int], int] = lambda labels: labels,
    fields: tuple[tuple[str, ...], Callable[[], Vectors]] | None = None,
    trained: bool = False,
) -> Fitted | None:
    """Fit a head; None if fewer than two labels have rows enough to cross-validate, or if there are too many labels.

    Args:
        queries: the vectors of rows as queries, float32 [num_rows, dimension]; no two rows are copies of each other.
        positions: those rows' positions in the pool, [num_rows].
        vectors: the pool's vectors, [count, dimension].
        labels: the pool's labels, by position.
        copies: for each row of the pool, the number of the row that it is or is a copy of, or -1, [count].
        width: returns the number of dimensions to append for a number of labels.
        fields: the names of two fields, and what returns their vectors as queries, float32 [num_rows, 2, dimension];
            called only if a gain is possible. The head reads them apart if it gains by that.
        trained: whether the encoder was trained on the pool. It knows the labels of the pool's rows, whole as they are,
            so cross-validation flatters a head of the whole query; fields apart then need to gain over no head alone.
    """
    targets = np.array([labels[position] for position in positions])
    names = np.unique(targets)
    first = slice(0, min(_VALIDATED, _VALIDATED_NUMBERS // len(names)))
    _, counts = np.unique(targets[first], return_counts=True)
    # Two rows of a label are in different folds, so each training has two labels at least.
    if len(names) > MOST_LABELS or (counts >= 2).sum() < 2 or len(targets) < 2 * _FOLDS:
        return None
    known = {name: code for code, name in enumerate(names.tolist())}
    codes = np.array([known.get(label, -1) for label in labels], np.int32)
    folds = folds_of(targets[first], _FOLDS)
    # A fold has the rows and their copies, so that no search finds a held-out row itself.
    compared = (copies >= 0) & (copies < len(folds))
    pool_folds = np.where(compared, folds[np.where(compared, copies, 0)], -1)
    nearest = _nearest(queries[first], folds, vectors, pool_folds, codes, len(names))
    some = queries[:_SPREAD] @ vectors[positions[:_SPREAD]].astype(np.float32).T
    validated = partial(_validate, nearest, folds, targets[first], names, float(np.std(some)))
    without, best = validated(head_features(queries), _STRENGTHS)
    apart: tuple[str, ...] = ()
    if fields is not None and (trained or best.shares.mean() <= 1 - _LEAST_GAIN):
        _, by_fields = validated(head_features(queries, fields[1]()), _FIELD_STRENGTHS)
        if _gains(by_fields.shares - without) if trained else _gains(by_fields.shares - best.shares, _FIELD_ERRORS):
            best, apart = by_fields, fields[0]
    weights = fit_weights(best.features, targets, names, best.strength)
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


def _nearest(
    queries: Vectors,
    folds: NDArray[np.int64],
    vectors: NDArray[np.floating],
    pool_folds: NDArray[np.int64],
    codes: NDArray[np.int32],
    num_labels: int,
) -> Vectors:
    """Return the similarities of the nearest rows of each label in other folds, [num_queries, num_labels + 1, 4].

    A head adds the same to all rows of a label, so no other row can be among the four first. The last label stands for
    those that the head does not know. Where a label has fewer rows, the rest is minus infinity.
    """
    nearest = np.full((len(queries), num_labels + 1, _SHOWN), -np.inf, np.float32)
    step = max(1, _NUMBERS // len(queries))
    for start in range(0, len(vectors), step):
        block = slice(start, start + step)
        similar = queries @ vectors[block].astype(np.float32).T
        similar[folds[:, None] == pool_folds[None, block]] = -np.inf
        for code in np.unique(codes[block]):
            found = np.concatenate([nearest[:, code], similar[:, codes[block] == code]], axis=1)
            nearest[:, code] = np.partition(found, -_SHOWN, axis=1)[:, -_SHOWN:]
    return nearest


def _validate(
    nearest: Vectors,
    folds: NDArray[np.int64],
    targets: NDArray[np.str_],
    names: NDArray[np.str_],
    spread: float,
    features: NDArray[np.float64],
    strengths: Sequence[float],
) -> tuple[NDArray[np.float64], _Best]:
    """Return the shares of each row without a head, and the best head.

    ``nearest``, see ``_nearest``, ``folds`` and ``targets`` [num_validated] are of the first rows.
    """
    rows = features[: len(targets)]
    alphas = [float(f"{max(spread, 1e-6) * weight:.3g}") for weight in _WEIGHTS]
    shares = {(c, alpha): np.empty(len(targets)) for c in strengths for alpha in alphas}
    own = np.searchsorted(names, targets)
    for fold in range(_FOLDS):
        held, rest = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        for c in strengths:
            likely = label_chances(fit_weights(rows[rest], targets[rest], names, c), rows[held])
            # No chance is known of labels that the head does not know.
            added = np.pad(likely, ((0, 0), (0, 1)))[:, :, None]
            for alpha in alphas:
                shares[c, alpha][held] = _shares(nearest[held] + alpha * added, own[held])
    # Of equal ones the first: the strongest regularisation, the smallest alpha.
    best = max(shares, key=lambda key: shares[key].mean())
    return _shares(nearest, own), _Best(features, *best, shares[best])


def _shares(scores: NDArray[np.floating], own: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return, for each query, the share of the four first rows that have its label; see ``_nearest``."""
    flat = scores.reshape(len(scores), -1)
    best = np.argpartition(-flat, _SHOWN - 1, axis=1)[:, :_SHOWN]
    found = np.isfinite(np.take_along_axis(flat, best, axis=1))
    right = found & (best // _SHOWN == own[:, None])
    result: NDArray[np.float64] = right.sum(axis=1) / np.maximum(found.sum(axis=1), 1)
    return result
