from .embedding_cache import CachingEncoder as CachingEncoder, PROBE as PROBE
from .field_reader import FieldReader as FieldReader
from .jobs import Embedding as Embedding, EncodeJob as EncodeJob, JobResult as JobResult
from .limits import Pace as Pace, refuse_costly as refuse_costly, refuse_overload as refuse_overload
from .preparer import Preparer as Preparer
from .turns import Turns as Turns
from .worker import Worker as Worker
