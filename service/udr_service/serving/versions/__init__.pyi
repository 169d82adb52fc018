from . import index_source as index_source
from .active_version import ActiveVersion as ActiveVersion
from .current import Current as Current
from .index_source import IndexSource as IndexSource, Source as Source
from .open_files import OpenFiles as OpenFiles, READ_BYTES as READ_BYTES
from .preparing import CHECK as CHECK, Prepared as Prepared
from .reloader import Reloader as Reloader, record_changes as record_changes
