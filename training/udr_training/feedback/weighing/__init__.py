"""The weight of hybrid searches, by task: told by scores that are there, or by what the language model is asked."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
