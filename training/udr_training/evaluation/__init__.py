"""Evaluation: what a language model reaches with each retriever's demonstrations, and the report that shows it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
