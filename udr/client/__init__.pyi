from .async_client import AsyncClient as AsyncClient
from .client import Client as Client
from .problems import PROBLEM as PROBLEM, PROBLEM_ERRORS as PROBLEM_ERRORS
from .requests import TIMEOUT as TIMEOUT
from .transport import KEY as KEY, retry_after_seconds as retry_after_seconds
