"""Loading language models, and their tokenizers alone."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from udr.errors import ConfigError, ModelError, UdrError
from udr_training.feedback.local import CausalLM, ModelTokenizer, multiply_in_float32
from udr_training.feedback.packing import Prompt


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


def test_a_model_that_does_not_fit_on_the_device_is_refused(lm_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(LlamaForCausalLM, "to", full)
    with pytest.raises(ModelError, match="in bfloat16 does not fit on cpu; use a smaller model, another dtype or"):
        CausalLM.load(str(lm_folder), dtype="bfloat16")


def test_tokenizer_alone_equals_the_models(lm_folder: Path, lm: CausalLM) -> None:
    tokenizer = ModelTokenizer.load(str(lm_folder))
    assert tokenizer.context == lm.context == 512
    for text in ("Review: good", "</s> {x}", "é\n"):
        assert tokenizer.tokens(text) == lm.tokens(text)
        assert tokenizer.tokens(text, start=True) == (0, *lm.tokens(text))
        assert tokenizer.text(tokenizer.tokens(text, start=True)) == tokenizer.text(tokenizer.tokens(text)) == text


def test_only_a_prompts_beginning_gets_the_space_that_a_tokenizer_puts_before_every_text() -> None:
    # As those of Llama 2 and Mistral 7B.
    letters = dict.fromkeys("▁\nAnswer:good")
    vocabulary = {piece: number for number, piece in enumerate((*letters, "▁g", "go", "▁go"))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("▁", "g"), ("g", "o"), ("▁g", "o")]))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    wrap: Any = PreTrainedTokenizerFast
    own = ModelTokenizer(wrap(tokenizer_object=tokenizer), 512)
    segments = ["Answer: good", "\nAnswer: good\n\n", "Answer:", " good"]
    apart = [own.tokens(text, start=not number) for number, text in enumerate(segments)]
    assert sum(apart, ()) == tuple(tokenizer.encode("".join(segments)).ids)
    assert apart[-1][0] == vocabulary["▁go"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_without_instructions_for_16_bits_products_are_those_of_float32(
    dtype: str, lm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = Prompt((tuple(range(3, 40)), tuple(range(50, 70))), ((4,), (5, 6), (7, 8, 9)))
    sums = []
    for has_instructions in (True, False):
        monkeypatch.setattr(
            "udr_training.feedback.local.causal_lm.cpu_multiplies", lambda _, found=has_instructions: found
        )
        lm = CausalLM.load(str(lm_folder), dtype=dtype)
        sums.append(lm.likelihoods([prompt])[0].sums)
    assert sums[1] == pytest.approx(sums[0], abs=0.1)
    layer = next(module for module in lm.model.modules() if isinstance(module, torch.nn.Linear))
    inputs = torch.randn(9, layer.in_features).to(layer.weight.dtype)
    exact = inputs.double() @ layer.weight.double().T
    torch.testing.assert_close(layer(inputs), exact.to(layer.weight.dtype), rtol=2**-8, atol=1e-6)
    # Torch's own layers refuse other numbers than their weights'.
    assert layer(inputs.float()).dtype == layer.weight.dtype


def test_layers_that_compute_something_else_keep_to_it() -> None:
    class Doubled(torch.nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * input

    layers = torch.nn.ModuleList([torch.nn.Linear(3, 3), Doubled(3, 3), torch.nn.Linear(3, 3).float()]).bfloat16()
    layers[2].float()
    multiply_in_float32(layers)
    inputs = torch.ones(2, 3)
    assert layers[0](inputs).dtype == torch.bfloat16
    assert torch.equal(layers[1](inputs), 2 * inputs) and layers[2](inputs).dtype == torch.float32


_FAULTS = """
import resource
from udr_training.feedback.local import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        b"x" * 2**26
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

returned = faults()
assert keep_freed_memory()
faults()
print(returned, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can keep freed memory")
def test_kept_memory_is_used_again_without_page_faults() -> None:
    result = subprocess.run([sys.executable, "-c", _FAULTS], check=True, stdout=subprocess.PIPE, text=True)
    returned, kept = map(int, result.stdout.split())
    assert kept < returned / 100
