from .demonstrations import DemonstrationTable as DemonstrationTable, SCHEMA as SCHEMA, record as record
from .kept import KeptRows as KeptRows
from .matching import Matcher as Matcher, check_kinds as check_kinds
