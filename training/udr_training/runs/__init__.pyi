from .plan import clock as clock
from .planning import plan_run as plan_run
from .run import Run as Run
