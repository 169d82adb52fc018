"""The rows of an index version: read from its SQLite file, kept in memory for a while, and matched with filters."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
