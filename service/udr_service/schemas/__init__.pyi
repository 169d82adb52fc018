from .info import (
    InfoAnswer as InfoAnswer, ReloadAnswer as ReloadAnswer, RowAnswer as RowAnswer, TaskAnswer as TaskAnswer,
    TasksAnswer as TasksAnswer,
)
from .openai import (
    EmbeddingAnswer as EmbeddingAnswer, EmbeddingsAnswer as EmbeddingsAnswer, EmbeddingsError as EmbeddingsError,
    EmbeddingsProblem as EmbeddingsProblem, UsageAnswer as UsageAnswer,
)
from .requests import (
    BatchBody as BatchBody, Body as Body, PromptBody as PromptBody, Refused as Refused, RetrieveBody as RetrieveBody,
)
from .responses import (
    BatchAnswer as BatchAnswer, Finding as Finding, Problem as Problem, PromptAnswer as PromptAnswer,
    RetrieveAnswer as RetrieveAnswer,
)
