from .cost import DEEPEST as DEEPEST, text_cost as text_cost
from .length import MAX_CHARACTERS as MAX_CHARACTERS, checked_text as checked_text
from .making import make_plan as make_plan, planning_characters as planning_characters, unknown as unknown
from .options import MAX_EXCLUDED as MAX_EXCLUDED, check_options as check_options
from .plan import EVEN as EVEN, Plan as Plan
