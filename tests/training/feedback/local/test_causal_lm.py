"""A language model in process: loading it, and its greedy text."""

from pathlib import Path

import pytest
import torch

from udr.errors import ConfigError, ModelError
from udr_training.feedback.local import CausalLM, ModelTokenizer


def test_a_name_that_leads_to_no_language_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file or folder"):
        CausalLM.load(str(tmp_path / "nothing"))
    with pytest.raises(ModelError, match="no causal language model"):
        CausalLM.load(str(tmp_path))


def test_an_unknown_dtype_or_device_is_refused(lm_folder: Path) -> None:
    with pytest.raises(ConfigError, match="unknown dtype 'float8'; there are float32, bfloat16, float16"):
        CausalLM.load(str(lm_folder), dtype="float8")
    with pytest.raises(ConfigError, match="device 'nowhere' cannot be used"):
        CausalLM.load(str(lm_folder), device="nowhere")


def test_greedy_text_is_the_likeliest_token_each_time_and_ends_at_the_stop_text(lm: CausalLM) -> None:
    prompt = lm.tokens("Words: a b", start=True)
    expected: list[int] = []
    with torch.inference_mode():
        for _ in range(6):
            logits = lm.model(input_ids=torch.tensor([[*prompt, *expected]])).logits
            expected.append(int(logits[0, -1].argmax()))
    whole = lm._words.text(tuple(expected))
    (answer,) = lm.generate([prompt], ["no such text"], 6)
    assert answer == whole.lstrip("\n").strip() and len(answer) > 2
    assert lm.generate([prompt], [answer[2]], 6) == [answer.partition(answer[2])[0].strip()]


def test_the_tokenizer_alone_cuts_as_the_model_does_and_says_its_window(lm_folder: Path, lm: CausalLM) -> None:
    words = ModelTokenizer.load(str(lm_folder))
    assert words.context == lm.context == 512
    for text in ("Review: good", "</s> {x}", "é\n"):
        assert words.tokens(text) == lm.tokens(text)
        assert words.tokens(text, start=True) == (0, *lm.tokens(text))
        assert words.text(words.tokens(text, start=True)) == words.text(words.tokens(text)) == text


def test_a_name_that_leads_to_no_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no loadable tokenizer"):
        ModelTokenizer.load(str(tmp_path))
