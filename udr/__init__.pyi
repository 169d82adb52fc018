from .client import AsyncClient as AsyncClient, Client as Client
from .data import Filter as Filter, Task as Task, query_fields as query_fields
from .errors import UdrError as UdrError
from .models import load_tokenizer as load_tokenizer
from .prompts import Prompt as Prompt, PromptBuilder as PromptBuilder
from .retrieval import (
    Retrieval as Retrieval, RetrievalRequest as RetrievalRequest, RetrievedDemonstration as RetrievedDemonstration,
    Retriever as Retriever,
)
from .types import Row as Row

__version__: str
