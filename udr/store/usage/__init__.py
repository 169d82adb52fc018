"""Usage: how often demonstrations are retrieved and shown, and the outcomes of the prompts that showed them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
