from .async_client import AsyncClient as AsyncClient
from .client import Client as Client
from .deadline import Deadline as Deadline, fetch_async as fetch_async
from .environment import is_loopback as is_loopback, open_http as open_http, proxy_for as proxy_for
from .problems import PROBLEM as PROBLEM, PROBLEM_ERRORS as PROBLEM_ERRORS
from .requests import TIMEOUT as TIMEOUT
from .transport import KEY as KEY, retry_after_seconds as retry_after_seconds
