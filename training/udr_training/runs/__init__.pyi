from .plan import plan_run as plan_run
from .run import Run as Run
