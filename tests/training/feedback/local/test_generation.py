"""Greedy generation in batches: each answer is the same as alone."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from tests.tiny_models import ARCHITECTURES, byte_tokenizer, tiny_llama, tiny_lm
from udr.errors import FeedbackError
from udr_training.feedback.local import CausalLM, answer_text, batches, generation, greedy_tokens, has_ended

TEXTS = ("a", "Words: a b", "one two three four five six seven", "Words: c d e f g", "b", "x y", "Words: a b")
NO_STOP = ["no such text"]

Prompts = list[tuple[int, ...]]


def generate_alone(lm: CausalLM, prompt: Sequence[int], count: int) -> tuple[int, ...]:
    """Return the likeliest next tokens, each from a forward pass over everything before it."""
    answer: list[int] = []
    with torch.inference_mode():
        for _ in range(count):
            answer.append(int(lm.model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, -1].argmax()))
    return tuple(answer)


def fail(tokens: int) -> Exception:
    raise AssertionError(f"no memory for {tokens} tokens")


@pytest.fixture(params=ARCHITECTURES, scope="module")
def any_lm(request: pytest.FixtureRequest) -> CausalLM:
    return CausalLM("tiny", "fingerprint", tiny_lm(request.param), byte_tokenizer(), pack_tokens=128)


@pytest.fixture(scope="module")
def prompts(lm: CausalLM) -> Prompts:
    return [lm.tokens(text, start=True) for text in TEXTS]


def test_answers_in_batches_equal_those_alone(any_lm: CausalLM, prompts: Prompts) -> None:
    limits = [6, 1, 4, 6, 2, 6, 3]
    expected = [generate_alone(any_lm, prompt, limit) for prompt, limit in zip(prompts, limits, strict=True)]
    for batch_tokens in (0, 60, 10_000):
        assert greedy_tokens(any_lm.model, prompts, limits, lambda _: False, batch_tokens, fail) == expected
    # An answer that ends early leaves its batch.
    last = expected[3][2]
    cut = [answer[: answer.index(last) + 1] if last in answer else answer for answer in expected]
    assert cut != expected
    assert greedy_tokens(any_lm.model, prompts, limits, lambda answer: answer[-1] == last, 10_000, fail) == cut


def test_text_ends_at_the_stop_text_and_is_empty_without_room(lm: CausalLM, prompts: Prompts) -> None:
    (answer,) = lm.generate([prompts[1]], NO_STOP, 6)
    assert answer == lm.tokenizer.text(generate_alone(lm, prompts[1], 6)).strip() and len(answer) > 2
    assert lm.generate([prompts[1]], [answer[2]], 6) == [answer.partition(answer[2])[0].strip()]
    full = (5,) * lm.context
    assert lm.generate([full, full[1:]], NO_STOP, 4)[0] == ""


@pytest.mark.parametrize(
    ("lengths", "limits", "batch_tokens", "expected"),
    [
        ([4, 9, 5, 3, 5], [2] * 5, 22, [[1, 2], [4, 0, 3]]),
        ([4, 9], [2, 2], 1, [[1], [0]]),
        ([4, 4], [0, 2], 99, [[1]]),
        # A long answer counts for every row of its batch.
        ([4, 4, 4], [2, 8, 2], 24, [[0, 1], [2]]),
    ],
)
def test_batches_are_filled_by_length(
    lengths: list[int], limits: list[int], batch_tokens: int, expected: list[list[int]]
) -> None:
    assert list(batches(lengths, limits, batch_tokens)) == expected


def test_batch_larger_than_memory_is_continued_in_halves(
    monkeypatch: pytest.MonkeyPatch, lm: CausalLM, prompts: Prompts
) -> None:
    sizes: list[int] = []
    continue_together: Callable[..., Any] = generation._continue_together

    def limited(model: Any, prompts: Prompts, *more: Any) -> Any:
        sizes.append(len(prompts))
        if len(prompts) > limit:
            raise torch.OutOfMemoryError
        return continue_together(model, prompts, *more)

    expected = lm.generate(prompts, NO_STOP, 5)
    monkeypatch.setattr(generation, "_continue_together", limited)
    limit = 2
    assert lm.generate(prompts, NO_STOP, 5) == expected
    assert sizes == [7, 3, 1, 2, 4, 2, 2]
    limit = 0
    with pytest.raises(FeedbackError, match="out of memory with one prompt of"):
        lm.generate(prompts, NO_STOP, 5)


def test_end_of_text_ends_an_answer_and_is_not_part_of_it(lm: CausalLM) -> None:
    tokenizer, answer, end = lm.tokenizer, lm.tokens("a b"), (1,)
    assert tokenizer.end == 1
    assert not has_ended(tokenizer, answer, ["\n"]) and has_ended(tokenizer, answer + end, ["\n"])
    assert answer_text(tokenizer, answer + end, ["\n"]) == answer_text(tokenizer, answer, ["\n"]) == "a b"
    assert answer_text(tokenizer, (), ["\n"]) == ""


def test_an_answer_ends_at_each_special_token_that_the_models_settings_name() -> None:
    model: Any = tiny_llama()
    # As those of Llama 3 and Qwen; the last one is a letter.
    model.generation_config.eos_token_id = [0, 1, 40]
    tokenizer = CausalLM("tiny", "fingerprint", model, byte_tokenizer(), pack_tokens=128).tokenizer
    answer, letter = tokenizer.tokens("a b"), tokenizer.text((40,))
    assert has_ended(tokenizer, (*answer, 0), NO_STOP) and has_ended(tokenizer, (*answer, 1), NO_STOP)
    assert answer_text(tokenizer, (*answer, 0), NO_STOP) == answer_text(tokenizer, (*answer, 1), NO_STOP) == "a b"
    assert not has_ended(tokenizer, (*answer, 40), NO_STOP)
    assert answer_text(tokenizer, (*answer, 40), NO_STOP) == f"a b{letter}"


def test_a_line_break_ends_an_answer_that_may_be_empty_at_its_beginning_too(lm: CausalLM) -> None:
    tokenizer, stop = lm.tokenizer, ["\n"]
    begun, gone_on = lm.tokens("\n\n"), lm.tokens("\n\nWords: c\n")
    assert not has_ended(tokenizer, begun, stop) and answer_text(tokenizer, gone_on, stop) == "Words: c"
    assert has_ended(tokenizer, begun, stop, empty=True)
    assert answer_text(tokenizer, begun, stop, empty=True) == answer_text(tokenizer, gone_on, stop, empty=True) == ""
    text = lm.tokens("a b\n")
    assert has_ended(tokenizer, text, stop, empty=True) and answer_text(tokenizer, text, stop, empty=True) == "a b"
