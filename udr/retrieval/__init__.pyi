from .choice import Aspects as Aspects, choose as choose
from .partitions import Partitions as Partitions
from .planning import (
    MAX_EXCLUDED as MAX_EXCLUDED, Plan as Plan, check_options as check_options,
    checked_text as checked_text, make_plan as make_plan, text_cost as text_cost, unknown as unknown,
)
from .retriever import Retriever as Retriever
from .selection import rounds as rounds, select as select
from .source import AsyncDemonstrationSource as AsyncDemonstrationSource, DemonstrationSource as DemonstrationSource
from .stopping import Stopped as Stopped, never as never
from .types import (
    DEFAULT_K as DEFAULT_K, Decision as Decision, DefaultK as DefaultK, JsonObject as JsonObject, MODES as MODES,
    Mode as Mode,
    Ranked as Ranked, Retrieval as Retrieval, RetrievalOptions as RetrievalOptions,
    RetrievalRequest as RetrievalRequest, RetrievedDemonstration as RetrievedDemonstration, Scale as Scale,
    SelectionOptions as SelectionOptions, Stage as Stage, check_names as check_names,
)
from .writing import (
    Draft as Draft, MAX_PAGE as MAX_PAGE, Page as Page, RowLike as RowLike, deletion as deletion, page as page,
    with_key as with_key,
)
