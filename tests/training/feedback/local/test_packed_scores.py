"""Packed scores equal the scores of each prompt alone, for every architecture; a model that differs is found out."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from numpy.typing import NDArray
from transformers import PreTrainedModel

from tests.tiny_models import ARCHITECTURES, WINDOW, byte_tokenizer, tiny_llama, tiny_lm
from tests.training.feedback.forests import forests
from udr.errors import FeedbackError
from udr_training.feedback import local
from udr_training.feedback.packing import Pack, Prompt, pack

WITHOUT_BLOCKS = ["gpt2", "gpt_neo"]
"""Architectures for which Transformers does not support FlexAttention."""

PROMPTS = [Prompt(((1, 2), tuple(range(40)), (4, query)), ((6,), (7, 8, 9), (7, 8, 10))) for query in range(5)]


def lm_of(model: PreTrainedModel, pack_tokens: int = 128) -> local.CausalLM:
    return local.CausalLM("tiny", "fingerprint", model, byte_tokenizer(), pack_tokens)


def sums_alone(lm: local.CausalLM, prompt: Prompt) -> list[float]:
    """Score each option by itself, from all logits, with nothing shared."""
    sums = []
    for option in prompt.options:
        with torch.inference_mode():
            ids = torch.tensor([prompt.context + option])
            logits = lm.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].double()
        logs = torch.log_softmax(logits, dim=-1)[len(prompt.context) - 1 : -1]
        sums.append(float(logs[range(len(option)), option].sum()))
    return sums


def assert_scored_as_alone(lm: local.CausalLM, prompts: Sequence[Prompt]) -> None:
    for prompt, result in zip(prompts, lm.likelihoods(prompts), strict=True):
        np.testing.assert_allclose(result.sums, sums_alone(lm, prompt), atol=1e-4)


def assert_equal(one: Sequence[NDArray[Any]], other: Sequence[NDArray[Any]]) -> None:
    np.testing.assert_allclose(np.concatenate(one), np.concatenate(other), atol=1e-4)


@pytest.fixture(params=["llama", "gpt2"], scope="module")
def lm(request: pytest.FixtureRequest) -> local.CausalLM:
    lm = lm_of(tiny_lm(request.param))
    assert lm.packing is not None
    return lm


@settings(max_examples=20)
@given(prompts=forests)
def test_random_forests_score_as_alone(lm: local.CausalLM, prompts: list[Prompt]) -> None:
    assert_scored_as_alone(lm, prompts)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_scores_as_alone_beyond_its_window_and_over_several_packs(architecture: str) -> None:
    lm = lm_of(tiny_lm(architecture), 256)
    assert lm.packing is not None
    generator = np.random.default_rng(1)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(map(int, generator.integers(258, size=count)))

    # Queries of one demonstration are far apart in a pack, but close in depth.
    shared = tokens(4), tokens(WINDOW + 10)
    one_pack = [Prompt((*shared, tokens(12 + 3 * number)), (tokens(1), tokens(3))) for number in range(5)]
    others = [Prompt((shared[0], tokens(90), tokens(9)), (tokens(1), tokens(5))) for _ in range(3)]
    assert len(lm.plan(one_pack)) == 1 and len(lm.plan(one_pack + others)) > 1
    assert_scored_as_alone(lm, one_pack + others)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_logits_are_read_by_the_head_only_if_nothing_follows_it(dtype: torch.dtype) -> None:
    # Gemma 2 caps its logits.
    for architecture, expected in (("llama", local.read_by_head), ("gemma2", local.read_by_model)):
        model: Any = tiny_lm(architecture)
        model.eval().to(dtype)
        with torch.no_grad():
            model.get_output_embeddings().weight *= 0.5
        packing = local.exact_packing(model, architecture, 128, 512, try_blocks=False)
        assert packing is not None and packing.read_logits is expected


@pytest.mark.parametrize(
    ("architecture", "read_logits"), [("llama", local.read_by_head), ("gemma2", local.read_by_model)]
)
def test_logits_in_chunks_give_the_same_scores(architecture: str, read_logits: Any) -> None:
    lm = lm_of(tiny_lm(architecture))
    assert lm.packing is not None
    packings = [local.Packing(lm.packing.style, partial(read_logits, chunk=chunk), 512) for chunk in (3, 64)]
    assert_equal(*(local.packed_log_likelihoods(lm.model, pack(PROMPTS), packing) for packing in packings))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_of_large_scores_in_16_bits_is_no_fault_of_packing(dtype: torch.dtype) -> None:
    model: Any = tiny_lm("llama")
    model.eval().to(dtype)
    with torch.no_grad():
        model.get_output_embeddings().weight *= 100
    assert local.exact_packing(model, "llama", 128, 512, try_blocks=False) is not None


@pytest.mark.parametrize("architecture", ["mistral", "qwen2", "gemma3", "gpt_neo"])
def test_self_check_finds_masks_that_ignore_the_window(
    architecture: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(local.masks, "_within", lambda model, packed, window: local.masks._ancestors(model, packed))
    assert lm_of(tiny_lm(architecture)).packing is None
    assert "packed scores are off" in caplog.text


def test_model_that_ignores_masks_is_scored_alone(caplog: pytest.LogCaptureFixture) -> None:
    class MaskBlind(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = tiny_llama()
            self.config = self.inner.config

        def get_input_embeddings(self) -> torch.nn.Module:
            return self.inner.get_input_embeddings()

        def forward(self, attention_mask: torch.Tensor | None = None, **kwargs: Any) -> object:
            if attention_mask is not None and attention_mask.ndim == 4:
                attention_mask = None
            kwargs.pop("position_ids", None)
            return self.inner(attention_mask=attention_mask, **kwargs)

    lm = lm_of(MaskBlind())  # type: ignore[arg-type]
    assert lm.packing is None
    assert "packed scores are off" in caplog.text
    assert_scored_as_alone(lm, [Prompt(((3, 4), (5, 6, 7), (8,)), ((9,), (9, 10)))])


@pytest.mark.parametrize("architecture", sorted({*ARCHITECTURES} - {*WITHOUT_BLOCKS}))
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile", "ignore:.*torch.jit.script_method")
def test_flex_attention_scores_as_alone(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local.self_check, "faster", lambda _model, packings, _packed: packings[1])
    model: Any = torch.nn.Module.eval(tiny_lm(architecture))
    implementation = model.config._attn_implementation
    # Compiled on a GPU; the same code, step by step, here.
    with torch.compiler.set_stance("force_eager"):
        packing = local.exact_packing(model, architecture, 256, 512, try_blocks=True)
        assert packing is not None and packing.style.keywords["form"] is local.masks.blocks  # type: ignore[attr-defined]
        packed = local.packed_log_likelihoods(model, pack(PROMPTS), packing)
    assert model.config._attn_implementation == implementation
    assert_equal(packed, local.plain_log_likelihoods(model, PROMPTS))


def test_several_models_with_several_rules_are_compiled() -> None:
    model, packed, before = tiny_lm("gemma2"), pack(PROMPTS), torch.compiler.config.recompile_limit
    # Three for each rule: Gemma 2 has two rules, and eight such models are more than one process loads.
    with local.masks.blocks(model, packed):
        assert torch.compiler.config.recompile_limit >= 8 * 2 * 3
    assert torch.compiler.config.recompile_limit == before


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_self_check_tries_each_kernel_with_short_packs_and_two_lengths_of_long_ones(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []

    def recorded(model: object, packed: Pack, packing: local.Packing) -> list[NDArray[np.float64]]:
        lengths.append(len(packed))
        return local.packed_log_likelihoods(model, packed, packing)

    monkeypatch.setattr(local.self_check, "packed_log_likelihoods", recorded)
    model = torch.nn.Module.eval(tiny_lm(architecture))
    assert local.exact_packing(model, architecture, 4096, 512, try_blocks=False) is not None
    tried = {*lengths[-3:]}
    # torch compiles another kernel for less than 128 tokens, and each again for a second length.
    assert len(tried) == 3 and sum(length >= 128 for length in tried) == 2


@pytest.mark.parametrize("architecture", WITHOUT_BLOCKS)
def test_model_without_flex_attention_is_packed_without_it(architecture: str, caplog: pytest.LogCaptureFixture) -> None:
    model = torch.nn.Module.eval(tiny_lm(architecture))
    with caplog.at_level("INFO"):
        assert local.exact_packing(model, "old", 256, 512, try_blocks=True) is not None
    assert "old: packed without FlexAttention: the model does not support it" in caplog.text


@pytest.mark.parametrize("slower", [0, 1])
def test_faster_of_two_exact_ways_is_used(slower: int, monkeypatch: pytest.MonkeyPatch) -> None:
    packings = [local.Packing(local.masks._in_buffers, read, 8) for read in (local.read_by_head, local.read_by_model)]
    seconds = {local.read_by_head: 0.001, local.read_by_model: 0.001, packings[slower].read_logits: 0.02}
    monkeypatch.setattr(
        local.self_check,
        "packed_log_likelihoods",
        lambda _model, _packed, packing: time.sleep(seconds[packing.read_logits]),
    )
    assert local.self_check.faster(None, packings, pack(PROMPTS)) is packings[1 - slower]


def test_prompts_beyond_an_unchecked_window_are_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = lm_of(tiny_lm("mistral"), 64)
    lm.packing = local.exact_packing(lm.model, "local", 64, 512, try_blocks=False, longest_check=WINDOW)
    assert lm.packing is not None and lm.packing.longest == WINDOW
    monkeypatch.setattr(local.causal_lm, "packed_log_likelihoods", lambda *_: pytest.fail("packed"))
    assert_scored_as_alone(lm, [Prompt((tuple(range(WINDOW)), (7, 8)), ((3,), (4, 5)))])


def test_out_of_memory_halves_the_rows_of_plain_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, limit = lm_of(tiny_llama()), 8
    prompts = [Prompt(((1, 2), (number,)), ((6,), (7, 8), (9,))) for number in range(5)]
    texts = [tuple(range(2, 2 + number)) for number in range(3, 20)]
    forward = lm.model.forward

    def limited(input_ids: torch.Tensor, **settings: object) -> object:
        if len(input_ids) > limit:
            raise torch.OutOfMemoryError
        return forward(input_ids=input_ids, **settings)

    def scores() -> list[NDArray[np.float64]]:
        return [*local.plain_log_likelihoods(lm.model, prompts), *lm.token_log_likelihoods(texts)]

    monkeypatch.setattr(lm.model, "forward", limited)
    expected, limit = scores(), 3
    assert_equal(scores(), expected)
    limit = 0
    with pytest.raises(FeedbackError, match="out of memory with one prompt of 20 tokens on cpu"):
        lm.token_log_likelihoods(texts)


def test_out_of_memory_halves_packs_and_keeps_scores(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lm = lm_of(tiny_llama(), 256)
    prompts = [Prompt(((1, 2), (number,), (4, 5)), ((6,), (7, 8))) for number in range(40)]
    expected = [result.sums for result in lm.likelihoods(prompts)]
    limit = 60

    def limited(model: object, packed: Pack, packing: local.Packing) -> list[NDArray[np.float64]]:
        if len(packed) > limit:
            raise torch.OutOfMemoryError
        return local.packed_log_likelihoods(model, packed, packing)

    monkeypatch.setattr(local.causal_lm, "packed_log_likelihoods", limited)
    assert_equal([result.sums for result in lm.likelihoods(prompts)], expected)
    assert "out of memory with a pack of" in caplog.text
    assert all(len(pack([prompts[number] for number in numbers])) <= 60 for numbers in lm.plan(prompts))
    limit = 0
    with pytest.raises(FeedbackError, match="out of memory with one prompt of 6 tokens on cpu"):
        lm.likelihoods(prompts)
