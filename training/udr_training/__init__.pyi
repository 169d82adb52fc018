from .run import Run as Run
from .run_folder import RUN_FORMAT as RUN_FORMAT, RunFolder as RunFolder
