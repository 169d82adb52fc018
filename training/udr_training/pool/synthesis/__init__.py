"""Worked solutions for questions that have only answers: tree search over the steps of a language model."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
