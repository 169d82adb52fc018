"""A language model behind a server: where it is, how it is asked, and what its answers cost."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
