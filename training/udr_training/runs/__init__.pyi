from .plan import plan_run as plan_run
