from .file_tokenizer import (
    FileTokenizer as FileTokenizer, slices as slices, tokenizes_slices_alike as tokenizes_slices_alike,
)
from .tiktoken_tokenizer import TiktokenTokenizer as TiktokenTokenizer
from .token_counter import (
    ChatCounter as ChatCounter, LoadedTokenizer as LoadedTokenizer, Message as Message, TokenCounter as TokenCounter,
)
from .tokenizer import check_tokenizer as check_tokenizer, load_tokenizer as load_tokenizer
from .transformers_tokenizer import (
    TransformersTokenizer as TransformersTokenizer, context_window as context_window, without_bars as without_bars,
)
