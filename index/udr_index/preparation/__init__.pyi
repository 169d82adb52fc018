from .config import InitConfig as InitConfig, KINDS as KINDS, usable_name as usable_name
from .conversion import Conversion as Conversion, convert as convert
from .dialect import Dialect as Dialect, decode as decode, sniff as sniff
from .run import LONG_CHARACTERS as LONG_CHARACTERS, Prepared as Prepared, prepare as prepare
from .tables import SUFFIXES as SUFFIXES, Table as Table, read_table as read_table
