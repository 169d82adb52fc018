"""Files: written completely or not at all, locked, text that people wrote; and those on remote stores."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
