"""Deprecated: import from ``udr_index.build``. This module goes with the next release."""

import warnings

from udr_index.build import BuildConfig

__all__ = ["BuildConfig"]

warnings.warn("udr_index.config is deprecated; import from udr_index.build instead", DeprecationWarning, stacklevel=2)
