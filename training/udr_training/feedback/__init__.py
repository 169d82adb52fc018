"""Feedback: how likely a language model finds each answer to a query after a demonstration."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
