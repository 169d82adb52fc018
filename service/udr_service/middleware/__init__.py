"""What every request passes: its record, host and key checks, and its body's limit."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
