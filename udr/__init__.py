"""udr: retrieve the demonstrations that help your language model most.

This package is the core: tasks and pools, wording, search, the index on disk, the retriever, the prompt builder
and the clients. Training, index building and serving are ``udr_training``, ``udr_index`` and ``udr_service``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from udr.async_client import AsyncClient
    from udr.client import Client
    from udr.errors import UdrError
    from udr.prompt import PromptBuilder
    from udr.retrieval import Retrieval, RetrievalRequest, RetrievedDemonstration
    from udr.retriever import Retriever
    from udr.tasks import Task
    from udr.types import Row

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "Client",
    "PromptBuilder",
    "Retrieval",
    "RetrievalRequest",
    "RetrievedDemonstration",
    "Retriever",
    "Row",
    "Task",
    "UdrError",
    "__version__",
]

# Where each name lives. It is imported when it is first used, so that `import udr` costs next to nothing.
_HOMES = {
    "AsyncClient": "udr.async_client",
    "Client": "udr.client",
    "PromptBuilder": "udr.prompt",
    "Retrieval": "udr.retrieval",
    "RetrievalRequest": "udr.retrieval",
    "RetrievedDemonstration": "udr.retrieval",
    "Retriever": "udr.retriever",
    "Row": "udr.types",
    "Task": "udr.tasks",
    "UdrError": "udr.errors",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
