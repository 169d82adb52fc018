"""Model names and their files, and models that are kept as a low-rank difference to another one."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
