from .estimate import Estimate as Estimate, PRIOR_WEIGHT as PRIOR_WEIGHT, estimates as estimates
from .file import USAGE as USAGE, UsageFile as UsageFile
from .types import (
    Count as Count, MAX_INPUT as MAX_INPUT, MAX_TARGET as MAX_TARGET, PromptOutcome as PromptOutcome,
    ShownPrompt as ShownPrompt, TaskTotal as TaskTotal, Told as Told, UsageLevel as UsageLevel,
)
from .usage import FLUSH_SECONDS as FLUSH_SECONDS, Usage as Usage
