from . import version_loader as version_loader
from .active_version import Current as Current, ActiveVersion as ActiveVersion
from .embedding_cache import CachingEncoder as CachingEncoder, Counts as Counts
from .jobs import JobResult as JobResult, Embedding as Embedding, EncodeJob as EncodeJob
from .reloader import Reloaded as Reloaded, Reloader as Reloader
from .request_record import Record as Record, record_of as record_of
from .service import Answer as Answer, Service as Service
from .version_loader import IndexSource as IndexSource, Source as Source
from .worker import Worker as Worker
