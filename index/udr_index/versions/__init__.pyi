from .catalog import find_version as find_version, list_versions as list_versions, publish as publish, upload as upload
from .cli import add_commands as add_commands
from .diff import (
    Difference as Difference, Ids as Ids, RowsDiff as RowsDiff, TaskDiff as TaskDiff, diff_rows as diff_rows,
    diff_versions as diff_versions,
)
from .export import export_encoder as export_encoder
from .pruning import prune as prune
from .shards import (
    PLACEMENTS as PLACEMENTS, build_shards as build_shards, place as place, shard_folder as shard_folder,
)
from .vector_check import compare_vectors as compare_vectors
