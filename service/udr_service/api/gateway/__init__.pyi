from .demonstrations import (
    DEMONSTRATIONS as DEMONSTRATIONS, PROMPT_ID as PROMPT_ID, TASK as TASK, TOKENS as TOKENS,
)
from .insertion import ChatText as ChatText
from .route import router as router
from .upstream import Upstream as Upstream
