"""Where models run: in this process, or on workers, here or on a Ray cluster, which get the work in shards."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
