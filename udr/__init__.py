"""udr: retrieve the demonstrations that help your language model most.

This package is the core: tasks and pools, wording, search, the index on disk, the retriever, the prompt builder
and the clients. Training, index building and serving are ``udr_training``, ``udr_index`` and ``udr_service``.
"""

import os
import sys

# For a copy that pip did not install, and so did not refuse.
if sys.version_info < (3, 11):  # noqa: UP036
    raise ImportError(
        f"udr needs Python 3.11 or newer; this is Python {sys.version.split()[0]} in {sys.executable}; "
        "make an environment with a newer one: python3.11 -m venv .venv"
    )

import lazy_loader

__version__ = "0.1.0"

# Before any dependency is imported: that is when they read these. Your own setting stays; see docs/privacy.md.
for _setting in ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"):
    os.environ.setdefault(_setting, "1")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
