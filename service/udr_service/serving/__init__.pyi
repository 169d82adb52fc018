from .clients import Client as Client, Clients as Clients, network as network
from .readiness import Readiness as Readiness
from .record import (
    FREE_BODY as FREE_BODY, Record as Record, UpstreamCall as UpstreamCall, free_body as free_body,
    record_of as record_of,
)
from .room import Room as Room
from .service import (
    Answer as Answer, AnswerContext as AnswerContext, INDEX_VERSION as INDEX_VERSION,
    OVERLAY_POSITION as OVERLAY_POSITION, RequestContext as RequestContext, Service as Service,
    timeout_of as timeout_of, within_limits as within_limits,
)
from .shares import Count as Count, Debt as Debt, SharedShares as SharedShares, Shares as Shares, Use as Use
from .team import Others as Others, Reloaded as Reloaded, Team as Team
from .upkeep import Compactor as Compactor, Mirror as Mirror, Scrubber as Scrubber
from .versions import (
    ActiveVersion as ActiveVersion, Current as Current, IndexSource as IndexSource, OpenFiles as OpenFiles,
    Prepared as Prepared, Reloader as Reloader, Source as Source, index_source as index_source,
    record_changes as record_changes,
)
from .work import (
    CachingEncoder as CachingEncoder, Embedding as Embedding, EncodeJob as EncodeJob,
    FieldReader as FieldReader, JobResult as JobResult, Preparer as Preparer, Turns as Turns, Worker as Worker,
    refuse_costly as refuse_costly, refuse_overload as refuse_overload,
)
