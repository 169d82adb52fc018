"""The retrievers that an evaluation compares: by name and options, or by the language model's own scores."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
