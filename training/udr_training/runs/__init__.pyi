from .plan import clock as clock, plan_run as plan_run
from .run import Run as Run
