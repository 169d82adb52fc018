"""What answers requests: the worker, its jobs, and the index version that is active."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
