from .candidates import watched as watched
from .sets import SetQuestion as SetQuestion
from .weigh import (
    ASKED_WEIGHTS as ASKED_WEIGHTS, WEIGHTS as WEIGHTS, Weighed as Weighed, best_weight as best_weight, weigh as weigh,
)
