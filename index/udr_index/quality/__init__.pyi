from .check import MAX_ERRORS as MAX_ERRORS, Report as Report, check as check
from .cli import app as app
from .config import CheckConfig as CheckConfig, NEAR as NEAR
from .coverage import differing_in_case as differing_in_case
from .cosine_pairs import Alike as Alike, alike as alike, alike_to as alike_to
from .duplicates import copies_within as copies_within, leaks as leaks
from .fixing import Fixed as Fixed, fix as fix
from .findings import Finding as Finding, Kind as Kind, Severity as Severity
from .long_rows import load_window as load_window
from .near_duplicates import (
    cut_by_encoder as cut_by_encoder, encode as encode, near_duplicates as near_duplicates, near_leaks as near_leaks,
)
from .splits import Split as Split, open_tasks as open_tasks
from .stats import Lengths as Lengths, collect as collect
