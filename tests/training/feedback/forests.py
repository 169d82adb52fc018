"""Forests of prompts that Hypothesis draws: few different tokens, so that many prompts share prefixes."""

from hypothesis import strategies as st

from udr_training.feedback.packing import Prompt

_tokens = st.lists(st.integers(0, 5), min_size=1, max_size=6).map(tuple)
_options = st.lists(_tokens, min_size=1, max_size=8, unique=True).map(tuple)
forests = st.lists(st.builds(Prompt, st.tuples(_tokens, _tokens, _tokens), _options), min_size=1, max_size=6)
