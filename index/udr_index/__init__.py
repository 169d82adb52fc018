"""udr_index: builds indexes offline, from pools and an encoder to a verified and published index version.

``udr_index.build.build`` builds one; ``udr index build`` does the same from a shell.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
