from .partitions import Labels as Labels
from .plan import Plan as Plan, unknown as unknown
from .retriever import Retriever as Retriever
from .selection import choose as choose, rounds as rounds, select as select
from .source import AsyncDemonstrationSource as AsyncDemonstrationSource, DemonstrationSource as DemonstrationSource
from .types import (
    DEFAULT_K as DEFAULT_K, Decision as Decision, DefaultK as DefaultK, JsonObject as JsonObject, Mode as Mode,
    Retrieval as Retrieval, RetrievalOptions as RetrievalOptions, RetrievalRequest as RetrievalRequest,
    RetrievedDemonstration as RetrievedDemonstration, Scale as Scale, SelectionOptions as SelectionOptions,
    Stage as Stage,
)
