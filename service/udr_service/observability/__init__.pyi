from . import tracing as tracing
from .audit import Audit as Audit, Event as Event
from .logs import (
    LogFormat as LogFormat, LogLevel as LogLevel, configure as configure, exception_text as exception_text,
    request_id as request_id,
)
from .metrics import (
    BATCH_SIZES as BATCH_SIZES, BATCH_TOKENS as BATCH_TOKENS, MOST_TASKS as MOST_TASKS, Metrics as Metrics,
    Refusal as Refusal, Reload as Reload, SECONDS as SECONDS, Stage as Stage,
    Upkeep as Upkeep,
)
from .reports import (
    Family as Family, Report as Report, added as added, lasting as lasting, of_workers as of_workers,
)
from .tracing import (
    keep_url_from_trace as keep_url_from_trace, prepare_export as prepare_export, telemetry as telemetry,
)
