from .columns import Column as Column
from .conditions import (
    Condition as Condition, ID as ID, MAX_CONDITIONS as MAX_CONDITIONS, MAX_DEPTH as MAX_DEPTH, MAX_KEY as MAX_KEY,
    MAX_VALUES as MAX_VALUES, Range as Range, TARGET as TARGET, TASK as TASK,
)
from .filter import Filter as Filter, FilterLike as FilterLike
