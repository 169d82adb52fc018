from .builder import Built as Built, Sources as Sources, build as build, build_from as build_from
from .config import BuildConfig as BuildConfig, Shard as Shard
from .export import check_engine as check_engine, copy_export as copy_export, export as export
from .faiss_index import (
    FLAT_BELOW as FLAT_BELOW,
    GRAPH as GRAPH, build_partition as build_partition, first_settings as first_settings, lists_of as lists_of,
    resolve as resolve, rows_to_train as rows_to_train, sample_size as sample_size,
)
from .identity import head_options as head_options, identify as identify
from .ingest import TaskRows as TaskRows
from .progress import OnProgress as OnProgress, Progress as Progress, show_progress as show_progress
from .reuse import PreviousVersion as PreviousVersion, write_measured as write_measured
from .staging import stamps as stamps
