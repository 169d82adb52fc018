"""The logistic regression of label heads: the only file that knows scikit-learn."""

import warnings
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from udr.errors import optional_import

_NO_CHANCE, _MOST_STEPS = -1000.0, 200

_SHORT_STEPS = 1 << 24
"""Features times labels below which a step of the fit is short: a few milliseconds."""


def can_fit() -> bool:
    """Return whether a regression can be fitted here; it imports nothing."""
    return find_spec("sklearn") is not None


def folds_of(targets: NDArray[np.str_], count: int) -> NDArray[np.int64]:
    """Return a fold below ``count`` for each row; each label's rows are spread over all, in their order."""
    folds = np.empty(len(targets), np.int64)
    folds[np.argsort(targets, kind="stable")] = np.arange(len(targets)) % count
    return folds


def fit_weights(
    features: NDArray[np.float64], targets: NDArray[np.str_], names: NDArray[np.str_], strength: float
) -> NDArray[np.float64]:
    """Return the weights of a regression that tells rows' names, float64 [num_names, num_features + 1].

    Args:
        features: float64 [num_rows, num_features]; see ``head_features``.
        targets: the name of each row, [num_rows]; at least two different ones.
        names: all names, sorted; one that no row has gets no chance.
        strength: C, the inverse of the regularisation's strength.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    with optional_import("scikit-learn", "index"):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits
    weights = np.zeros((len(names), features.shape[1] + 1))
    weights[:, -1] = _NO_CHANCE
    # After each of many short steps, threads of BLAS wait for one another: on busy cores, for ten times as long.
    threads = 1 if features.size * len(names) < _SHORT_STEPS else None
    with warnings.catch_warnings(), threadpool_limits(threads, "blas"):
        # What is not fitted to the end is judged like what is.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=strength, max_iter=_MOST_STEPS).fit(features, targets)
    fitted = np.hstack([model.coef_, model.intercept_[:, None]])
    if len(model.classes_) == 2:
        # One row of odds, those of the second.
        fitted = np.vstack([np.zeros_like(fitted), fitted])
    weights[np.searchsorted(names, model.classes_)] = fitted
    return weights
