"""The retriever: what it holds, how it answers requests, and how it reads and writes rows."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
