"""Building an index: from rows and an encoder to a verified and published version."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
