"""The partitions of an open index: their search, the ranking of their hits, and what hits hold."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
