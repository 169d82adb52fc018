"""Labels that a row's text speaks against: out-of-fold probabilities of the label head's regression.

The regression never saw the row that it judges. How many labels are wrong is estimated as in confident learning
(Northcutt et al., 2021, arXiv 1911.00068): a row counts if another label is at least as likely for it as for that
label's own rows on average; here, also its own label must be far less likely than that, or half of the rows of a task
with hard labels would count. So many rows are flagged, those with the lowest scores; none if the regression tells
labels no better than the most frequent one does.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from udr.errors import DataError
from udr.search import Chances, Vectors, fit_weights, folds_of, head_features, label_chances
from udr.types import Json
from udr_training.pool.scores import Score

FOLDS = 5
_ERRORS = 3.0
"""Standard errors by which the regression must be better than the most frequent label."""

_UNLIKELY = 0.6
"""What a wrong label has of the usual probability of its rows, at most."""

_STRENGTHS = (1.0, 10.0, 100.0)
"""Values of C to try; that by which the given labels are likeliest is taken."""

_MEANING = (
    "p(the row's label) - p(the likeliest other label), by a regression on the vectors of the other folds' rows; below "
    "0, another label is likelier"
)


def label_score(vectors: Vectors, labels: Sequence[str], settings: Mapping[str, Json] | None = None) -> Score:
    """Score each row by how much its text speaks for its label, from -1 to 1.

    Args:
        vectors: those of the rows as queries, float32 [num_rows, dimension].
        labels: the rows' labels.
        settings: how the vectors were made.

    Raises:
        DataError: fewer than two labels have two rows, or there are too few rows.
    """
    targets = np.array(labels)
    names, codes, counts = np.unique(targets, return_inverse=True, return_counts=True)
    if (counts >= 2).sum() < 2 or len(targets) < 2 * FOLDS:
        raise DataError(
            f"labels cannot be scored: it takes {2 * FOLDS} rows, and two labels with two rows at least; found "
            f"{len(targets)} rows of {len(names)} labels; omit labels from --by"
        )
    features = head_features(vectors)
    strength, chances = max(
        ((strength, _held_out(features, targets, names, strength)) for strength in _STRENGTHS),
        key=lambda pair: float(np.log(np.maximum(_own(pair[1], codes), 1e-12)).mean()),
    )
    own = _own(chances, codes)
    others = chances.copy()
    others[np.arange(len(codes)), codes] = -1.0
    margins = np.round(own - others.max(axis=1), 6)
    likeliest = names[others.argmax(axis=1)]
    told = float((margins > 0).mean())
    wrong = _estimated_errors(chances, codes) if _beats(told, float(counts.max()) / len(codes), len(codes)) else 0
    return Score(
        name="labels",
        meaning=_MEANING,
        values=tuple(margins.tolist()),
        # No row of a tie is flagged alone.
        flagged_below=float(np.sort(margins)[min(wrong, len(margins) - 1)]),
        notes={position: f"{likeliest[position]!s} is likelier" for position in np.flatnonzero(margins < 0).tolist()},
        settings={**(settings or {}), "folds": FOLDS, "strength": strength, "agrees": round(told, 4)},
    )


def _held_out(
    features: NDArray[np.float64], targets: NDArray[np.str_], names: NDArray[np.str_], strength: float
) -> Chances:
    """Return p(label | row) by the other folds' rows, float64 [num_rows, num_names]."""
    folds = folds_of(targets, FOLDS)
    chances = np.empty((len(targets), len(names)))
    for fold in range(FOLDS):
        held = folds == fold
        chances[held] = label_chances(fit_weights(features[~held], targets[~held], names, strength), features[held])
    return chances


def _own(chances: Chances, codes: NDArray[np.integer]) -> NDArray[np.float64]:
    own: NDArray[np.float64] = chances[np.arange(len(codes)), codes]
    return own


def _beats(share: float, guessed: float, rows: int) -> bool:
    """Return whether a share of rows is above one by guessing, by more than chance."""
    return share - guessed > _ERRORS * math.sqrt(guessed * (1 - guessed) / rows)


def _estimated_errors(chances: Chances, codes: NDArray[np.integer]) -> int:
    """Return how many rows have a wrong label; see above."""
    usual = np.array([chances[codes == code, code].mean() for code in range(chances.shape[1])])
    confident = np.where(chances >= usual, chances, -1.0)
    other = (confident.max(axis=1) >= 0) & (confident.argmax(axis=1) != codes)
    return int((other & (_own(chances, codes) < _UNLIKELY * usual[codes])).sum())
