"""What a process does with memory that it frees, while a language model computes on the CPU."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Parameters of glibc's ``mallopt``."""


def keep_freed_memory() -> bool:
    """Have this process keep the memory that it frees, and return whether it does; only glibc can.

    A language model allocates and frees tens of megabytes in each layer. By default, glibc gives blocks of this size
    back to the system, which clears the same pages again for the next layer.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # Both return 1 if they took effect.
    return mallopt is not None and bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
