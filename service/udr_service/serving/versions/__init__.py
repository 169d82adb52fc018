"""The versions of the index: where they come from, which one answers, and how another one takes over."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
