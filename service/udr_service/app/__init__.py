"""The applications: a service of an index, its replicas, and one that asks services of shards. Nothing is global."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
