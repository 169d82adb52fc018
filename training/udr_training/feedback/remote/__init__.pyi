from . import sanity_check as sanity_check
from .answer_scorer import AnswerScorer as AnswerScorer
from .chat_logprobs import ChatLogprobs as ChatLogprobs, Shares as Shares, option_shares as option_shares
from .echo import EchoError as EchoError, is_echo as is_echo, read_echo as read_echo
from .lm import RemoteLM as RemoteLM
from .metric import MetricScorer as MetricScorer
from .rank import Listing as Listing, RankScorer as RankScorer, listings as listings, read_numbers as read_numbers
