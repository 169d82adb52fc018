from . import (
    causal_lm as causal_lm, forward as forward, generation as generation, masks as masks, self_check as self_check,
)
from .causal_lm import CausalLM as CausalLM, check_device as check_device
from .forward import Packing as Packing, plain_log_likelihoods as plain_log_likelihoods
from .generation import (
    answer_text as answer_text, batches as batches, greedy_tokens as greedy_tokens, has_ended as has_ended,
)
from .tokenizer import ModelTokenizer as ModelTokenizer
