from .address import (
    Api as Api, KEY as KEY, LMAddress as LMAddress, WORKER_KEY as WORKER_KEY, is_remote as is_remote,
    read_address as read_address,
)
from .budget import Budget as Budget, BudgetError as BudgetError, Spend as Spend, UNIT as UNIT
from .http import (
    RequestPolicy as RequestPolicy, Send as Send, Server as Server, retry_after_seconds as retry_after_seconds,
)
from .meter import Meter as Meter
from .metrics import (
    Judge as Judge, Statistics as Statistics, answer_value as answer_value, check_metric as check_metric,
    exact_match as exact_match, final_answer as final_answer, judge as judge, rouge_l as rouge_l, sari as sari,
)
from .paid import PaidAnswers as PaidAnswers, answer_key as answer_key
from .parsing import (
    MORE_TOKENS as MORE_TOKENS, ParsedAnswer as ParsedAnswer, Parsing as Parsing, READING as READING,
    parse_answer as parse_answer, without_thoughts as without_thoughts,
)
from .prompts import (
    AnswerForm as AnswerForm, BUDGET as BUDGET, BuiltPrompt as BuiltPrompt, EstimatedTokens as EstimatedTokens,
    PromptSettings as PromptSettings, PromptWriter as PromptWriter, answer_options as answer_options,
    estimated_tokens as estimated_tokens, form_fields as form_fields,
)
from .replies import Reply as Reply, ReplyError as ReplyError, read_reply as read_reply
from .room import (
    AnswerRooms as AnswerRooms, answer_room as answer_room, ends_of as ends_of, longest_answer as longest_answer,
)
from .server_lm import Question as Question, ServerLM as ServerLM
from .settings import ServerSettings as ServerSettings, read_settings as read_settings
