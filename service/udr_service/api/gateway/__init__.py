"""The gateway: OpenAI's chat completions, with demonstrations for the last user message, answered by an upstream."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
