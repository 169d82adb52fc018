from .run_folder import RUN_FORMAT as RUN_FORMAT, RunFolder as RunFolder
from .runs import Run as Run
