from . import active_version as active_version
from .active_version import (
    ActiveVersion as ActiveVersion, Current as Current, IndexSource as IndexSource, Source as Source,
)
from .clients import Client as Client, Clients as Clients
from .embedding_cache import CachingEncoder as CachingEncoder
from .jobs import Embedding as Embedding, EncodeJob as EncodeJob, JobResult as JobResult
from .open_files import OpenFiles as OpenFiles
from .preparer import Preparer as Preparer
from .readiness import Readiness as Readiness
from .reloader import Reloaded as Reloaded, Reloader as Reloader
from .room import Room as Room
from .scrubber import Scrubber as Scrubber
from .service import (
    Answer as Answer, INDEX_VERSION as INDEX_VERSION, Record as Record,
    RequestContext as RequestContext, Service as Service, record_of as record_of,
)
from .turns import Turns as Turns
from .worker import Worker as Worker
