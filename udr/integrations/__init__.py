"""udr in other libraries: one module each, imported by its name, with the extra of that name."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
