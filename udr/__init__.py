"""udr: retrieve the demonstrations that help your language model most.

This package is the core: tasks and pools, wording, search, the index on disk, the retriever, the prompt builder
and the client. Training, index building and serving are ``udr_training``, ``udr_index`` and ``udr_service``.
"""

__version__ = "0.1.0"
