from .metrics import (
    Judge as Judge, Statistics as Statistics, answer_value as answer_value, check_metric as check_metric,
    exact_match as exact_match, final_answer as final_answer, judge as judge, rouge_l as rouge_l, sari as sari,
)
from .parsing import (
    MORE_TOKENS as MORE_TOKENS, ParsedAnswer as ParsedAnswer, Parsing as Parsing, READING as READING,
    parse_answer as parse_answer, without_thoughts as without_thoughts,
)
from .prompts import (
    AnswerForm as AnswerForm, BUDGET as BUDGET, BuiltPrompt as BuiltPrompt, EstimatedTokens as EstimatedTokens,
    PromptSettings as PromptSettings, PromptWriter as PromptWriter, answer_options as answer_options,
    estimated_tokens as estimated_tokens, form_fields as form_fields,
)
from .room import (
    AnswerRooms as AnswerRooms, answer_room as answer_room, ends_of as ends_of, longest_answer as longest_answer,
)
from .server import (
    Api as Api, Budget as Budget, BudgetError as BudgetError, KEY as KEY, LMAddress as LMAddress, Meter as Meter,
    PaidAnswers as PaidAnswers, Question as Question, Reply as Reply, ReplyError as ReplyError,
    RequestPolicy as RequestPolicy, Send as Send, Server as Server, ServerLM as ServerLM,
    ServerSettings as ServerSettings, Spend as Spend, UNIT as UNIT, WORKER_KEY as WORKER_KEY,
    answer_key as answer_key, is_remote as is_remote, read_address as read_address, read_reply as read_reply,
    read_settings as read_settings, retry_after_seconds as retry_after_seconds,
)
