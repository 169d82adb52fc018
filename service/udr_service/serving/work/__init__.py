"""The threads that work for requests: queues in which clients take turns, batches, the cache of query vectors."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
