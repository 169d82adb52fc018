"""The server: how many connections there are, what each may take before its request is complete, and their end."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
