"""Deprecated: import from ``udr_index.build``. The next release removes this module."""

import warnings

from udr_index.build import BuildConfig

__all__ = ["BuildConfig"]

warnings.warn("udr_index.config is deprecated; import from udr_index.build instead", DeprecationWarning, stacklevel=2)
