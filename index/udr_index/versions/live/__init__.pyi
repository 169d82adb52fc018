from .backup import Backup as Backup, backup as backup, restore as restore
from .cli import add_commands as add_commands, list_rows as list_rows, split as split
from .compaction import Compacted as Compacted, compact as compact
from .rows import open_rows as open_rows, verify_log as verify_log
from .transfer import (
    Exported as Exported, Imported as Imported, export_rows as export_rows, import_rows as import_rows,
)
from .usage import (
    OutcomesFile as OutcomesFile, TaskUsage as TaskUsage, export_outcomes as export_outcomes, task_usage as task_usage,
    usage as usage,
)
