"""Fitting a task's label head: the only file that knows scikit-learn's classifier.

A logistic regression tells a query's label from its vector. It is fitted on rows of the pool as the encoder reads
queries: as demonstrations, their texts give the label away. Cross-validation searches the other folds' demonstrations
for each held-out row, and counts how many of the four first have its label; by this it chooses how strongly the
regression is regularised, and how much it counts.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udr.data import Kind, sample_by
from udr.errors import optional_import
from udr.search import LabelHead, Vectors, unit_vectors
from udr.store import MOST_LABELS, LabelHeadStamp, Partition

RECIPE = 1
"""The version of this procedure; part of the name of an index version that has followed it."""

FEWEST_ROWS = 100
"""The smallest pool that is considered unless a head is asked for."""

_MOST_ROWS = 4096
"""Rows that are encoded as queries and fitted on."""
_VALIDATED, _VALIDATED_NUMBERS = 2048, 1 << 18
"""Rows that cross-validation uses, and rows times labels: fewer rows if there are many labels."""

_FOLDS, _SHOWN = 5, 4
_NO_CHANCE, _MOST_STEPS = -1000.0, 200
_STRENGTHS = (1.0, 10.0, 100.0)
_WEIGHTS = (2.0, 4.0, 8.0, 16.0)
"""Values of alpha to try, in standard deviations of the similarities, whose spread depends on the encoder."""

_LEAST_GAIN, _ERRORS = 0.01, 3.0
"""A gain counts if it is at least this, and this many of its standard errors; the best of several is chosen."""


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


def rows_to_fit(count: int) -> NDArray[np.int64]:
    """Return the positions of the rows to fit on, of a pool's, ordered by a hash."""
    return np.array(sample_by(range(count), min(count, _MOST_ROWS), 0, str), np.int64)


def fit(
    queries: Vectors,
    positions: NDArray[np.int64],
    vectors: NDArray[np.floating],
    labels: Sequence[str],
    width: Callable[[int], int] = lambda labels: labels,
) -> Fitted | None:
    """Fit a head; None if fewer than two labels have rows enough to cross-validate, or if there are too many labels.

    Args:
        queries: the vectors of rows as queries, float32 [num_rows, dimension].
        positions: those rows' positions in the pool, [num_rows].
        vectors: the pool's vectors, [count, dimension].
        labels: the pool's labels, by position.
        width: returns the number of dimensions to append for a number of labels.
    """
    targets = np.array([labels[position] for position in positions])
    names = np.unique(targets)
    first = slice(0, min(_VALIDATED, _VALIDATED_NUMBERS // len(names)))
    _, counts = np.unique(targets[first], return_counts=True)
    # Two rows of a label are in different folds, so each training has two labels at least.
    if len(names) > MOST_LABELS or (counts >= 2).sum() < 2 or len(targets) < 2 * _FOLDS:
        return None
    units = unit_vectors(queries)
    demonstrations = vectors[positions[first]].astype(np.float32)
    strength, alpha, without, best = _validate(units[first], queries[first], demonstrations, targets[first], names)
    weights = _weights(units, targets, names, strength)
    known = {name: code for code, name in enumerate(names.tolist())}
    codes = np.array([known.get(label, -1) for label in labels], np.int32)
    head = LabelHead(weights, codes, alpha, width(len(names)))
    gain = best - without
    error = gain.std(ddof=1) / np.sqrt(len(gain))
    stamp = LabelHeadStamp(
        labels=tuple(names.tolist()),
        alpha=alpha,
        width=head.width,
        strength=strength,
        rows=len(positions),
        share_without=round(float(without.mean()), 4),
        share=round(float(best.mean()), 4),
    )
    return Fitted(head, stamp, bool(gain.mean() >= max(_LEAST_GAIN, _ERRORS * error)))


def _validate(
    units: NDArray[np.float64],
    queries: Vectors,
    demonstrations: Vectors,
    targets: NDArray[np.str_],
    names: NDArray[np.str_],
) -> tuple[float, float, NDArray[np.float64], NDArray[np.float64]]:
    """Return the best strength and alpha, and the shares of each row without the head and with the best one."""
    folds = _folds(targets)
    sample = slice(0, 256)
    spread = float(np.std(queries[sample] @ demonstrations[sample].T))
    alphas = [float(f"{max(spread, 1e-6) * weight:.3g}") for weight in _WEIGHTS]
    shares = {(c, alpha): np.empty(len(targets)) for c in _STRENGTHS for alpha in alphas}
    without = np.empty(len(targets))
    codes = np.searchsorted(names, targets).astype(np.int32)
    for fold in range(_FOLDS):
        held, rest = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        own, pool = codes[held], codes[rest]
        similarities = queries[held] @ demonstrations[rest].T
        without[held] = _shares(similarities, own, pool)
        for c in _STRENGTHS:
            head = LabelHead(_weights(units[rest], targets[rest], names, c), pool, 1.0, len(names))
            chances = head.probabilities(queries[held])[:, pool]
            for alpha in alphas:
                shares[c, alpha][held] = _shares(similarities + alpha * chances, own, pool)
    # Of equal ones the first: the strongest regularisation, the smallest alpha.
    best = max(shares, key=lambda key: shares[key].mean())
    return *best, without, shares[best]


def _folds(targets: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return a fold for each row; each label's rows are spread over all, in their order."""
    folds = np.empty(len(targets), np.int64)
    folds[np.argsort(targets, kind="stable")] = np.arange(len(targets)) % _FOLDS
    return folds


def _shares(scores: NDArray[np.floating], own: NDArray[np.int32], codes: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return, for each query, the share of the first rows by their scores, [num_queries, num_rows], with its label."""
    k = min(_SHOWN, scores.shape[1])
    best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    result: NDArray[np.float64] = (codes[best] == own[:, None]).mean(axis=1)
    return result


def _weights(
    units: NDArray[np.float64], targets: NDArray[np.str_], names: NDArray[np.str_], strength: float
) -> NDArray[np.float64]:
    """Return the weights of all names, float64 [num_names, dimension + 1]; a name that no row has gets no chance."""
    with optional_import("scikit-learn", "index"):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
    weights = np.zeros((len(names), units.shape[1] + 1))
    weights[:, -1] = _NO_CHANCE
    with warnings.catch_warnings():
        # What is not fitted to the end is judged like what is.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=strength, max_iter=_MOST_STEPS).fit(units, targets)
    fitted = np.hstack([model.coef_, model.intercept_[:, None]])
    if len(model.classes_) == 2:
        # One row of odds, those of the second.
        fitted = np.vstack([np.zeros_like(fitted), fitted])
    weights[np.searchsorted(names, model.classes_)] = fitted
    return weights
