from .address import (
    Api as Api, KEY as KEY, LMAddress as LMAddress, WORKER_KEY as WORKER_KEY, is_remote as is_remote,
    read_address as read_address,
)
from .budget import Budget as Budget, BudgetError as BudgetError, Spend as Spend, UNIT as UNIT
from .http import (
    RequestPolicy as RequestPolicy, Send as Send, Server as Server, retry_after_seconds as retry_after_seconds,
)
from .meter import Meter as Meter
from .paid import PaidAnswers as PaidAnswers, answer_key as answer_key
from .replies import Reply as Reply, ReplyError as ReplyError, read_reply as read_reply
from .question import Question as Question
from .server_lm import ServerLM as ServerLM
from .settings import ServerSettings as ServerSettings, read_settings as read_settings
