"""Deprecated, and removed in the next release: import from ``udr.models``."""

import warnings

from udr.models import ChatCounter, FileTokenizer, LoadedTokenizer, TokenCounter, load_tokenizer

__all__ = ["ChatCounter", "FileTokenizer", "LoadedTokenizer", "TokenCounter", "load_tokenizer"]

warnings.warn("udr.tokenizer is deprecated; import from udr.models instead", DeprecationWarning, stacklevel=2)
