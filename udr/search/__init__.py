"""Search over vectors and words: exact, approximate, on CPU and GPU, and BM25; all in one order of results."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
