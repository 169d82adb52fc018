"""udr_index: builds indexes offline. Pools and an encoder go in, a verified and published index version comes out.

``udr_index.build.build`` does it; ``udr index build`` is the same from a shell.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
