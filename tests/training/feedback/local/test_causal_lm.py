"""Loading language models, and their tokenizers alone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from udr.errors import ConfigError, ModelError, UdrError
from udr_training.feedback.local import CausalLM, ModelTokenizer


@pytest.mark.parametrize(
    ("load", "error", "message"),
    [
        (lambda folder: CausalLM.load(f"{folder}/nothing"), ModelError, "no such file or folder"),
        (lambda folder: CausalLM.load(f"{folder}/.."), ModelError, "is not a language model; it has no config.json"),
        (lambda folder: CausalLM.load(str(folder)), ModelError, "is not a loadable causal language model"),
        (lambda folder: ModelTokenizer.load(str(folder)), ModelError, "has no loadable tokenizer"),
        (lambda folder: CausalLM.load(str(folder), dtype="float8"), ConfigError, "must be one of float32, bfloat16, "),
        (lambda folder: CausalLM.load(str(folder), device="nowhere"), ConfigError, "'nowhere' cannot be used"),
    ],
)
def test_model_that_cannot_be_loaded_is_refused(
    load: Callable[[Path], object], error: type[UdrError], message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with pytest.raises(error, match=message):
        load(folder)


def test_tokenizer_alone_equals_the_models(lm_folder: Path, lm: CausalLM) -> None:
    tokenizer = ModelTokenizer.load(str(lm_folder))
    assert tokenizer.context == lm.context == 512
    for text in ("Review: good", "</s> {x}", "é\n"):
        assert tokenizer.tokens(text) == lm.tokens(text)
        assert tokenizer.tokens(text, start=True) == (0, *lm.tokens(text))
        assert tokenizer.text(tokenizer.tokens(text, start=True)) == tokenizer.text(tokenizer.tokens(text)) == text
