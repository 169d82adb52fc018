from .run import Run as Run
from .run_folder import RunFolder as RunFolder
