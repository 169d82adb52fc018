"""Estimates on test rows, with honest 95 % intervals, and how many rows a gain needs to be seen."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
