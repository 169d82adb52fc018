from .pool import LivePool as LivePool
from .writer_lock import WriterLock as WriterLock
