"""Packing: the layout, the plan, and the one claim that matters: packed scores equal scores of each prompt alone."""

import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from numpy.typing import NDArray
from transformers import PreTrainedModel

from tests.tiny_models import ARCHITECTURES, WINDOW, byte_tokenizer, tiny_gpt2, tiny_llama, tiny_lm
from tests.training.forests import forests
from udr.errors import FeedbackError
from udr_training.feedback.local import CausalLM, Packing, causal_lm, forward, masks, self_check
from udr_training.feedback.packing import Pack, Prompt, pack

WITHOUT_BLOCKS = {"gpt2", "gpt_neo"}
"""Architectures that Transformers gives no FlexAttention."""

MODELS = {"llama": tiny_llama, "gpt2": tiny_gpt2}


@pytest.fixture(params=MODELS, scope="module")
def lm(request: pytest.FixtureRequest) -> CausalLM:
    build: Callable[[], PreTrainedModel] = MODELS[request.param]
    return CausalLM("tiny", "fingerprint", build(), byte_tokenizer(), pack_tokens=128)


def alone(lm: CausalLM, prompt: Prompt, option: tuple[int, ...]) -> float:
    """Score one option of one prompt by itself, from all logits, with nothing shared."""
    context = tuple(itertools.chain(*prompt.parts))
    with torch.inference_mode():
        ids = torch.tensor([context + option])
        logits = lm.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].double()
    logs = torch.log_softmax(logits, dim=-1)
    return float(sum(logs[len(context) + place - 1, token] for place, token in enumerate(option)))


def sums(lm: CausalLM, prompts: list[Prompt]) -> list[NDArray[np.floating]]:
    return [said.sums for said in lm.likelihoods(prompts)]


def test_self_check_accepts_llama_and_gpt2(lm: CausalLM) -> None:
    assert lm.packed


@settings(max_examples=40)
@given(prompts=forests)
def test_packed_scores_equal_scores_of_each_option_alone(lm: CausalLM, prompts: list[Prompt]) -> None:
    packed = [said.sums for said in lm.score(prompts)]
    for prompt, values in zip(prompts, packed, strict=True):
        expected = [alone(lm, prompt, option) for option in prompt.options]
        np.testing.assert_allclose(values, expected, atol=1e-4)


def test_labels_that_begin_one_another_score_as_alone(lm: CausalLM) -> None:
    prompt = Prompt(((3, 4), (5, 6, 7), (8,)), ((9,), (9, 10), (9, 10, 11, 12), (10, 9)))
    expected = [alone(lm, prompt, option) for option in prompt.options]
    np.testing.assert_allclose(lm.score([prompt])[0].sums, expected, atol=1e-4)


def test_unequal_lengths_over_several_packs_score_as_alone(lm: CausalLM) -> None:
    generator = np.random.default_rng(0)

    def some(count: int) -> tuple[int, ...]:
        return tuple(int(token) for token in generator.integers(258, size=count))

    demonstrations = [some(length) for length in (3, 40, 90)]
    prompts = [
        Prompt(
            (some(2), demonstrations[number % 3], some(int(generator.integers(1, 30)))), tuple(some(n) for n in (1, 5))
        )
        for number in range(12)
    ]
    assert len(lm.plan(prompts)) > 1
    for prompt, values in zip(prompts, sums(lm, prompts), strict=True):
        np.testing.assert_allclose(values, [alone(lm, prompt, option) for option in prompt.options], atol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_scores_as_alone_beyond_its_window(architecture: str) -> None:
    lm = CausalLM(architecture, "fingerprint", tiny_lm(architecture), byte_tokenizer(), pack_tokens=256)
    assert lm.packed
    generator = np.random.default_rng(1)

    def words(count: int) -> tuple[int, ...]:
        return tuple(map(int, generator.integers(258, size=count)))

    shared = words(4), words(WINDOW + 10)
    # Queries of one demonstration lie far apart in a pack, but close in depth.
    prompts = [Prompt((*shared, words(12 + 3 * number)), (words(1), words(3))) for number in range(5)]
    assert len(lm.plan(prompts)) == 1
    for prompt, values in zip(prompts, sums(lm, prompts), strict=True):
        np.testing.assert_allclose(values, [alone(lm, prompt, option) for option in prompt.options], atol=1e-4)


def test_logits_that_are_capped_after_the_head_are_read_as_the_model_forms_them() -> None:
    def reading(architecture: str) -> object:
        lm = CausalLM(architecture, "fingerprint", tiny_lm(architecture), byte_tokenizer(), pack_tokens=128)
        assert lm._packing is not None
        return lm._packing.reading

    assert (reading("llama"), reading("gemma2")) == (forward.by_head, forward.by_model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_whether_anything_follows_the_head_is_told_in_any_dtype(dtype: torch.dtype) -> None:
    model: Any = torch.nn.Module.to(tiny_lm("gemma2"), dtype)
    with torch.no_grad():
        model.get_output_embeddings().weight *= 0.5
    assert self_check._readings(model) == [forward.by_model]
    assert self_check._readings(torch.nn.Module.to(tiny_lm("llama"), dtype)) == [forward.by_head, forward.by_model]


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_predictions_are_read_in_chunks_as_all_at_once(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = CausalLM(architecture, "fingerprint", tiny_lm(architecture), byte_tokenizer(), pack_tokens=128)
    prompts = [Prompt(((1, 2), (3,), (4, query)), ((6,), (7, 8, 9), (7, 8, 10))) for query in range(5)]
    expected = sums(lm, prompts)
    monkeypatch.setattr(forward, "_PLACES", 3)
    for values, same in zip(sums(lm, prompts), expected, strict=True):
        np.testing.assert_allclose(values, same, atol=1e-5)


@pytest.mark.parametrize("architecture", ["mistral", "qwen2", "gemma3", "gpt_neo"])
def test_one_mask_for_all_layers_is_caught_by_the_self_check(
    architecture: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(masks, "_within", lambda model, packed, window: masks._ancestors(model, packed))
    assert not CausalLM(architecture, "f", tiny_lm(architecture), byte_tokenizer(), pack_tokens=128).packed
    assert "packed scores are off" in caplog.text


@pytest.mark.parametrize("architecture", sorted({*ARCHITECTURES} - WITHOUT_BLOCKS))
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile", "ignore:.*torch.jit.script_method")
def test_blocks_of_flex_attention_score_as_alone(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "_faster", lambda _model, ways, _packed: ways[1])
    model: Any = torch.nn.Module.eval(tiny_lm(architecture))
    usual = model.config._attn_implementation
    prompts = [Prompt(((1, 2), tuple(range(40)), (4, query)), ((6,), (7, 8, 9), (7, 8, 10))) for query in range(5)]
    # Compiled where there is a GPU; the same code, step by step, here.
    with torch.compiler.set_stance("force_eager"):
        packing = self_check.exact_packing(model, architecture, 256, 512, try_blocks=True)
        assert packing is not None and packing.style.keywords["form"] is masks.blocks  # type: ignore[attr-defined]
        packed = forward.packed_log_likelihoods(model, pack(prompts), packing)
    assert model.config._attn_implementation == usual
    plain = forward.plain_log_likelihoods(model, prompts)
    np.testing.assert_allclose(np.concatenate(packed), np.concatenate(plain), atol=1e-4)


@pytest.mark.parametrize("architecture", sorted(WITHOUT_BLOCKS))
def test_a_model_without_flex_attention_is_packed_without_it(
    architecture: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = torch.nn.Module.eval(tiny_lm(architecture))
    with caplog.at_level("INFO"):
        assert self_check.exact_packing(model, "old", 256, 512, try_blocks=True) is not None
    assert "old: packed without FlexAttention: the model has none" in caplog.text


@pytest.mark.parametrize("slower", [0, 1])
def test_of_two_exact_ways_the_faster_is_taken(slower: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ways = [Packing(masks._in_buffers, forward.by_head, 8), Packing(masks._in_buffers, forward.by_model, 8)]
    monkeypatch.setattr(
        self_check, "packed_log_likelihoods", lambda _m, _p, way: time.sleep(0.05 if way is ways[slower] else 0.001)
    )
    assert self_check._faster(None, ways, pack([Prompt(((1,),), ((2,),))])) is ways[1 - slower]


def test_a_window_too_long_to_try_is_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "_LONGEST_CHECK", WINDOW)
    lm = CausalLM("local", "fingerprint", tiny_lm("mistral"), byte_tokenizer(), pack_tokens=64)
    monkeypatch.setattr(causal_lm, "packed_log_likelihoods", lambda *_: pytest.fail("packed"))
    prompt = Prompt((tuple(range(WINDOW)), (7, 8)), ((3,), (4, 5)))
    np.testing.assert_allclose(
        sums(lm, [prompt])[0], [alone(lm, prompt, option) for option in prompt.options], atol=1e-4
    )


def test_out_of_memory_halves_the_packs_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lm = CausalLM("small", "fingerprint", tiny_llama(), byte_tokenizer(), pack_tokens=256)
    prompts = [Prompt(((1, 2), (number,), (4, 5)), ((6,), (7, 8))) for number in range(40)]
    expected = sums(lm, prompts)
    whole = forward.packed_log_likelihoods

    def narrow(model: object, packed: Pack, packing: Packing) -> list[NDArray[np.float64]]:
        if len(packed) > 60:
            raise torch.OutOfMemoryError
        return whole(model, packed, packing)

    monkeypatch.setattr(causal_lm, "packed_log_likelihoods", narrow)
    for values, same in zip(sums(lm, prompts), expected, strict=True):
        np.testing.assert_allclose(values, same, atol=1e-5)
    assert "out of memory with a pack of" in caplog.text
    assert all(len(pack([prompts[number] for number in numbers])) <= 60 for numbers in lm.plan(prompts))
    monkeypatch.setattr(causal_lm, "packed_log_likelihoods", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError))
    with pytest.raises(FeedbackError, match="out of memory with one prompt of 6 tokens on cpu"):
        lm.likelihoods(prompts)


def test_pack_lays_shared_parts_out_once_and_leaves_out_last_tokens() -> None:
    first = Prompt(((1, 2), (3,), (4,)), ((5,), (6, 7)))
    second = Prompt(((1, 2), (3,), (8, 9)), ((5,),))
    packed = pack([first, second])
    assert packed.tokens.tolist() == [1, 2, 3, 4, 6, 8, 9]
    assert packed.positions.tolist() == [0, 1, 2, 3, 4, 3, 4]
    # The second query (places 5 and 6) sees instruction and demonstration, not the first query or its option.
    seen = (packed.enter <= packed.enter[6]) & (packed.enter[6] < packed.leave)
    assert np.flatnonzero(seen).tolist() == [0, 1, 2, 5, 6]
    assert list(zip(packed.sources.tolist(), packed.targets.tolist(), strict=True)) == [(3, 5), (3, 6), (4, 7), (6, 5)]
    assert packed.paths == (((0,), (1, 2)), ((3,),))


def test_one_token_labels_cost_nothing_beyond_the_query() -> None:
    few, many = (Prompt(((1,), (2,), (3,)), tuple((label,) for label in range(count))) for count in (2, 100))
    assert len(pack([few])) == len(pack([many])) == 3


@pytest.mark.parametrize(
    "prompt",
    [Prompt(((), ()), ((1,),)), Prompt(((1,),), ((),)), Prompt(((1,),), ())],
    ids=["no-token", "empty", "none"],
)
def test_a_prompt_without_tokens_or_options_is_refused(prompt: Prompt) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        pack([prompt])


def test_a_model_that_ignores_the_mask_is_scored_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Deaf(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = tiny_llama()
            self.config = self.inner.config

        def get_input_embeddings(self) -> torch.nn.Module:
            return self.inner.get_input_embeddings()

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: object
        ) -> object:
            if attention_mask is not None and attention_mask.ndim == 4:
                attention_mask = None
            kwargs.pop("position_ids", None)
            return self.inner(input_ids=input_ids, attention_mask=attention_mask, **kwargs)

    lm = CausalLM("deaf", "fingerprint", Deaf(), byte_tokenizer(), pack_tokens=128)  # type: ignore[arg-type]
    assert not lm.packed
    assert "packed scores are off" in caplog.text
    prompt = Prompt(((3, 4), (5, 6, 7), (8,)), ((9,), (9, 10)))
    np.testing.assert_allclose(
        sums(lm, [prompt])[0], [alone(lm, prompt, option) for option in prompt.options], atol=1e-4
    )
