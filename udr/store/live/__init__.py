"""Live pools: writes on top of a published index version, durable in a log, and searched with it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
