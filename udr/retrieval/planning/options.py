"""The options of a request that are valid whatever the index."""

import sys
from collections.abc import Collection

from udr.data import Filter
from udr.errors import InvalidInputError, brief
from udr.retrieval.types import CHOOSING, MODES, RetrievalRequest
from udr.search import RRF_CONSTANT

MAX_EXCLUDED = 4096
"""The maximum number of ids to exclude."""

_MOST_FUSED = round(2 / (RRF_CONSTANT + 1), 5)
"""The similarity in mode ``hybrid`` of what is first in both rankings, whose weights sum to 2."""


def check_options(request: RetrievalRequest) -> Filter | None:
    """Return a request's filter, parsed; ``InvalidInputError`` if an option is invalid, whatever the index."""
    if request.mode not in MODES:
        raise InvalidInputError(f"mode must be one of {', '.join(MODES)}; found {brief(request.mode)}")
    exclude: object = request.exclude
    if isinstance(exclude, str) or not isinstance(exclude, Collection):
        raise InvalidInputError(f"exclude must be a list of ids, found {brief(exclude)}")
    if len(exclude) > MAX_EXCLUDED:
        raise InvalidInputError(f"exclude must have at most {MAX_EXCLUDED} ids, found {len(exclude)}")
    if not all(isinstance(id, str) for id in exclude):
        raise InvalidInputError(f"exclude must be a list of ids, found {brief(exclude)}")
    filter = None if request.filter is None else Filter.of(request.filter)
    for name in ("min_similarity", "max_similarity", "max_copy", "distinct", "diversity", "coverage", "weight"):
        value = getattr(request, name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
            raise InvalidInputError(f"{name} must be a number, found {brief(value)}")
        if name not in ("min_similarity", "max_similarity") and not 0 <= value <= 1:
            raise InvalidInputError(f"{name} must be from 0 to 1, found {brief(value)}")
    _check_bounds(request)
    for name in ("keep_copies", "balance", "explain", "fill"):
        if not isinstance(getattr(request, name), bool):
            raise InvalidInputError(f"{name} must be true or false, found {brief(getattr(request, name))}")
    if not isinstance(request.label_head, bool | None):
        raise InvalidInputError(f"label_head must be true, false or absent, found {brief(request.label_head)}")
    number = request.candidates
    if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < request.k):
        raise InvalidInputError(f"candidates must be a whole number, not below k ({request.k}); found {brief(number)}")
    if number is not None and not request.chooses:
        raise InvalidInputError(
            f"candidates is how many are chosen from or explained, so give one of {', '.join(CHOOSING)}; found none"
        )
    if request.weight is not None and request.mode != "hybrid":
        raise InvalidInputError(f"weight fuses two rankings, so mode must be 'hybrid'; found {brief(request.mode)}")
    for name in ("diversity", "coverage"):
        if getattr(request, name) is not None and request.mode != "dense":
            raise InvalidInputError(
                f"{name} weighs the encoder's similarities, so mode must be 'dense'; found {brief(request.mode)}"
            )
    return filter


def _check_bounds(request: RetrievalRequest) -> None:
    lowest, highest = request.min_similarity, request.max_similarity
    if lowest is None:
        return
    if highest is not None and lowest > highest:
        raise InvalidInputError(f"min_similarity must not be above max_similarity ({highest:g}); found {lowest:g}")
    if request.mode == "hybrid" and lowest > _MOST_FUSED:
        raise InvalidInputError(
            f"in mode 'hybrid', a similarity is a sum of two reciprocal ranks, at most {_MOST_FUSED}, so "
            f"min_similarity must not be above that; found {lowest:g}; lower it, or use mode 'dense'"
        )
