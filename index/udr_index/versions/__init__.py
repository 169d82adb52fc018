"""The versions of an index: list, publish, compare, prune, and check their vectors."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
