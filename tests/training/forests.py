"""Forests of prompts that Hypothesis draws: few tokens, so that many begin alike."""

from hypothesis import strategies as st

from udr_training.feedback.packing import Prompt

tokens = st.lists(st.integers(0, 5), min_size=1, max_size=6).map(tuple)
options = st.lists(tokens, min_size=1, max_size=8, unique=True).map(tuple)
forests = st.lists(st.builds(Prompt, st.tuples(tokens, tokens, tokens), options), min_size=1, max_size=6)
