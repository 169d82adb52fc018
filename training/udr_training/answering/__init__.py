"""Language models that answer prompts: servers, what their answers cost, and how an answer is read and judged."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
