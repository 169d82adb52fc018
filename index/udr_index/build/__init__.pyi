from .builder import build as build
from .config import BuildConfig as BuildConfig
from .encoding import checked as checked, encode_by_length as encode_by_length
from .faiss_index import build_partition as build_partition
from .index_types import (
    GRAPH as GRAPH, first_settings as first_settings, lists_of as lists_of, resolve as resolve,
    rows_to_train as rows_to_train, sample_size as sample_size,
)
from .progress import Progress as Progress, Shown as Shown
from .reuse import PreviousVersion as PreviousVersion
