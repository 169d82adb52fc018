"""Packed scores on a GPU equal plain ones: in float32 those of the CPU, in 16 bits the GPU's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny_models import ARCHITECTURES, save_lm, tiny_lm
from udr_training.feedback.local import (
    CausalLM,
    Packing,
    masks,
    packed_log_likelihoods,
    plain_log_likelihoods,
    read_by_model,
)
from udr_training.feedback.packing import Prompt, pack

pytestmark = pytest.mark.gpu

PROMPTS = [
    Prompt(((1, 2, 3), tuple(range(4, 40)), (40 + query, 50)), ((6,), (7, 8, 9), (7, 8, 10))) for query in range(9)
]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-3), ("bfloat16", 0.5), ("float16", 0.1)])
def test_packed_scores_on_cuda_equal_plain_ones(
    architecture: str, dtype: str, tolerance: float, tmp_path: Path
) -> None:
    folder = save_lm(tmp_path / "lm", tiny_lm(architecture))
    lm = CausalLM.load(str(folder), "cuda", dtype)
    assert lm.packing is not None and next(lm.model.parameters()).device.type == "cuda"
    # Rounding to 16 bits moves the scores of random models by more than the tolerance.
    plain = CausalLM.load(str(folder)) if dtype == "float32" else lm
    expected = plain_log_likelihoods(plain.model, PROMPTS)
    for result, values in zip(lm.likelihoods(PROMPTS), expected, strict=True):
        np.testing.assert_allclose(result.sums, values, atol=tolerance)


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 0.5)])
@pytest.mark.parametrize("repeated", [1, 20])
def test_compiled_flex_attention_scores_as_plain(
    architecture: str, dtype: torch.dtype, tolerance: float, repeated: int
) -> None:
    # Heads of 16 numbers are the smallest that torch compiles; it has another kernel for packs below 128 tokens.
    built: Any = tiny_lm(architecture, head_dim=16)
    model = built.eval().to("cuda", dtype)
    prompts = [
        Prompt((prompt.parts[0], (100 + number, *prompt.parts[1]), prompt.parts[2]), prompt.options)
        for number in range(repeated)
        for prompt in PROMPTS
    ]
    packed = pack(prompts)
    assert (len(packed) < 128) == (repeated == 1)
    results = packed_log_likelihoods(model, packed, Packing(masks.styles(model, masks.blocks)[0], read_by_model, 512))
    expected = plain_log_likelihoods(model, prompts)
    np.testing.assert_allclose(np.concatenate(results), np.concatenate(expected), atol=tolerance)
