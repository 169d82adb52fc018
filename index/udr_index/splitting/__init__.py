"""Splitting rows into those that train and those that test, with what asks the same in one of them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
