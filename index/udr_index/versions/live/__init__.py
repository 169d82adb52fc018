"""Live pools on the command line: rows written on top of a version, and new versions made of both."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
