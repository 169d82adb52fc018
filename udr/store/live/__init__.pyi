from .base import Base as Base
from .changes import (
    ANY as ANY, Change as Change, MAX_KEY as MAX_KEY, Outcome as Outcome,
    row_version as row_version,
)
from .labels import Labels as Labels
from .log import DURABILITIES as DURABILITIES, Durability as Durability, LOG as LOG, WriteLog as WriteLog
from .overlay import Overlay as Overlay
from .pool import LivePool as LivePool, WriterLock as WriterLock
from .view import View as View
from .writes import (
    Receipt as Receipt, Write as Write, holder_of as holder_of, read_writes as read_writes,
)
