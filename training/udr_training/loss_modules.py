"""Deprecated: import from ``udr_training.losses``. This module goes with the next release."""

import warnings

from udr_training.losses import CandidateLoss

__all__ = ["CandidateLoss"]

warnings.warn(
    "udr_training.loss_modules is deprecated; import from udr_training.losses instead", DeprecationWarning, stacklevel=2
)
