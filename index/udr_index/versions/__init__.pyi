from .catalog import find_version as find_version, list_versions as list_versions, prune as prune, publish as publish
from .cli import add_commands as add_commands
from .diff import Difference as Difference, TaskDiff as TaskDiff, diff_versions as diff_versions
from .row_diff import Ids as Ids, RowsDiff as RowsDiff, diff_rows as diff_rows
from .vector_check import compare_vectors as compare_vectors
