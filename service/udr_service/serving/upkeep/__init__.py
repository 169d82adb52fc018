"""Upkeep: what a service does for its index beside answering, at low priority, in one worker for all."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
