from .answering import AnswerContext as AnswerContext
from .context import Answer as Answer, RequestContext as RequestContext
from .limits import timeout_of as timeout_of, within_limits as within_limits
from .service import INDEX_VERSION as INDEX_VERSION, OVERLAY_POSITION as OVERLAY_POSITION, Service as Service
