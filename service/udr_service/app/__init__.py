"""The applications: a service of an index, and one that asks the services of its shards. Nothing is global."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
