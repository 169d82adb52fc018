from .checks import CHECKS as CHECKS, Check as Check, ENGINES as ENGINES
from .command import doctor as doctor
from .findings import Finding as Finding, State as State
from .machine import check_disk as check_disk, check_memory as check_memory, check_port as check_port
from .packages import check_versions as check_versions
