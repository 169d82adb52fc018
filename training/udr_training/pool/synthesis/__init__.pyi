from .cli import synthesise as synthesise
from .search import Draw as Draw, Drawn as Drawn, Limits as Limits, METHODS as METHODS, grow as grow
from .solving import (
    ANSWER as ANSWER, Solver as Solver, check_task as check_task, is_worked as is_worked,
    read_solution as read_solution,
)
from .tree import Node as Node, ROOT as ROOT, Tree as Tree
from .writing import summary as summary, write_solved as write_solved
