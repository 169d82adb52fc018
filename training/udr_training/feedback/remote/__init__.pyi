from . import sanity_check as sanity_check
from .echo import EchoError as EchoError, is_echo as is_echo, read_echo as read_echo
from .lm import RemoteLM as RemoteLM
