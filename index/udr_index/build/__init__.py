"""Building an index: rows and an encoder go in, a verified and published version comes out."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
