from .chat import ChatBody as ChatBody, ChatOptions as ChatOptions
from .info import (
    InfoAnswer as InfoAnswer, ReloadAnswer as ReloadAnswer, RowAnswer as RowAnswer, TaskAnswer as TaskAnswer,
    TasksAnswer as TasksAnswer, ShardAnswer as ShardAnswer, ShardedTaskAnswer as ShardedTaskAnswer,
    ShardsInfoAnswer as ShardsInfoAnswer,
)
from .outcomes import OutcomesAnswer as OutcomesAnswer, OutcomesBody as OutcomesBody
from .requests import (
    BatchBody as BatchBody, EmbeddingsBody as EmbeddingsBody, InvalidItem as InvalidItem,
    PromptBody as PromptBody, RetrieveBody as RetrieveBody, first_errors as first_errors,
)
from .responses import (
    BatchAnswer as BatchAnswer, EmbeddingAnswer as EmbeddingAnswer, EmbeddingsAnswer as EmbeddingsAnswer,
    EmbeddingsError as EmbeddingsError, EmbeddingsProblem as EmbeddingsProblem, Finding as Finding,
    ModelAnswer as ModelAnswer, ModelsAnswer as ModelsAnswer, Problem as Problem,
    PromptAnswer as PromptAnswer, RetrieveAnswer as RetrieveAnswer, UsageAnswer as UsageAnswer,
)
from .writes import (
    ChangedAnswer as ChangedAnswer, ChangesBody as ChangesBody, PageAnswer as PageAnswer, RowBody as RowBody,
)
