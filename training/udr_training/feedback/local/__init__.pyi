from . import causal_lm as causal_lm, generation as generation, masks as masks, self_check as self_check
from .causal_lm import CausalLM as CausalLM, check_device as check_device
from .forward import (
    Packing as Packing, packed_log_likelihoods as packed_log_likelihoods,
    plain_log_likelihoods as plain_log_likelihoods, read_by_head as read_by_head, read_by_model as read_by_model,
    token_log_likelihoods as token_log_likelihoods,
)
from .generation import (
    answer_text as answer_text, batches as batches, greedy_tokens as greedy_tokens, has_ended as has_ended,
)
from .scattered import (
    LoadLM as LoadLM, ScatteredCausalLM as ScatteredCausalLM, load_local as load_local, opened_lm as opened_lm,
)
from .memory import keep_freed_memory as keep_freed_memory
from .multiplication import multiply_in_float32 as multiply_in_float32
from .self_check import exact_packing as exact_packing
from .tokenizer import ModelTokenizer as ModelTokenizer
from .writer import Writer as Writer, WritingLM as WritingLM, WrittenMetric as WrittenMetric
