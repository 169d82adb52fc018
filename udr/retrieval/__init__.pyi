from .labels import Labels as Labels, rounds as rounds
from .mmr import Chosen as Chosen, choose as choose
from .plan import Plan as Plan, unknown as unknown
from .retriever import Retriever as Retriever, refuse_damage as refuse_damage
from .selection import select as select
from .source import AsyncDemonstrationSource as AsyncDemonstrationSource, DemonstrationSource as DemonstrationSource
from .types import (
    Decision as Decision, Mode as Mode, Retrieval as Retrieval, RetrievalOptions as RetrievalOptions,
    RetrievalRequest as RetrievalRequest, RetrievedDemonstration as RetrievedDemonstration,
    SelectionOptions as SelectionOptions, Stage as Stage,
)
