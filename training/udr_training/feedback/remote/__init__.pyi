from . import sanity_check as sanity_check
from .echo import EchoError as EchoError, is_echo as is_echo, read_echo as read_echo
from .http import Patience as Patience, asked_pause as asked_pause
from .lm import PROMPTS as PROMPTS, RemoteLM as RemoteLM
