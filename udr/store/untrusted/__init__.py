"""Files that others may have made: inside the index's directory, and within bounds, before they are used."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
