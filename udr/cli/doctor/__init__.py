"""The command ``udr doctor``: what this machine and installation offer udr, and what to do where something lacks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
