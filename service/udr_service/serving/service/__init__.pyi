from .context import Answer as Answer, RequestContext as RequestContext
from .limits import (
    before as before, refuse_foreign as refuse_foreign, timeout_of as timeout_of, within_limits as within_limits,
)
from .service import INDEX_VERSION as INDEX_VERSION, OVERLAY_POSITION as OVERLAY_POSITION, Service as Service
