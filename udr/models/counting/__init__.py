"""Tokenizers that count the tokens of a prompt, with one interface for all libraries."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
