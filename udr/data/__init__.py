"""Tasks, rows and pools: read from files, checked, formatted for models, and compared for duplicates."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
