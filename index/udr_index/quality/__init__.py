"""The quality of a collection: what is wrong with its rows, and statistics about them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
