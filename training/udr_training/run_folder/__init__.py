"""A run's directory: its files, and how one on a remote store is copied and uploaded."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
