"""Packed scores on a GPU equal plain ones: in float32 those of the CPU, in 16 bits the GPU's own."""

from pathlib import Path

import numpy as np
import pytest

from tests.tiny_models import ARCHITECTURES, save_lm, tiny_lm
from udr_training.feedback.local import CausalLM, plain_log_likelihoods
from udr_training.feedback.packing import Prompt

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
