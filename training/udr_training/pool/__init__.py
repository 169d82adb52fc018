"""Which rows of a pool are worth retrieving: their scores, and a new pool of the rows worth keeping."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
