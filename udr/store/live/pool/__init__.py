"""The live pool: a version with the writes on top of it, and the lock of the one that writes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
