"""The priority of threads whose work may take long."""

import os
import threading
from contextlib import suppress

_NICE = 5


def step_back() -> None:
    """Let the other threads of the service go first, where the system knows priorities of threads (Linux)."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
