from .cli import split as split
from .encoder_pairs import near_pairs as near_pairs
from .folders import FolderSplit as FolderSplit, split_folder as split_folder, write_rows as write_rows
from .groups import group as group
from .holdout import (
    Holdout as Holdout, MOST_TEST_ROWS as MOST_TEST_ROWS, NEARLY_REPEAT as NEARLY_REPEAT, TEST_SHARE as TEST_SHARE,
    hold_out as hold_out, quotas as quotas, split_rows as split_rows,
)
