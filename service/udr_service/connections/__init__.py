"""Connections: how many there are, how much and for how long each may send before its request is complete."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
