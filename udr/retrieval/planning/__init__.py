"""From a request to a plan: what is valid, what it costs, and what is to be searched."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
