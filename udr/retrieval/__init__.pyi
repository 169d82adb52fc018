from .partitions import Labels as Labels
from .plan import Plan as Plan, unknown as unknown
from .retriever import Retriever as Retriever
from .selection import choose as choose, rounds as rounds, select as select
from .source import AsyncDemonstrationSource as AsyncDemonstrationSource, DemonstrationSource as DemonstrationSource
from .types import (
    Decision as Decision, JsonObject as JsonObject, Mode as Mode, Retrieval as Retrieval,
    RetrievalOptions as RetrievalOptions, RetrievalRequest as RetrievalRequest,
    RetrievedDemonstration as RetrievedDemonstration, SelectionOptions as SelectionOptions, Stage as Stage,
)
