"""Greedy text in batches: the same answers as alone, in whatever company."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from tests.tiny_models import ARCHITECTURES, byte_tokenizer, tiny_lm
from udr.errors import FeedbackError
from udr_training.feedback.local import CausalLM, answer_text, batches, generation, greedy_tokens, has_ended

WORDS = ("a", "Words: a b", "one two three four five six seven", "Words: c d e f g", "b", "x y", "Words: a b")


def _alone(lm: CausalLM, prompt: Sequence[int], count: int) -> tuple[int, ...]:
    """Return the likeliest next tokens, each from a forward pass over everything before it."""
    answer: list[int] = []
    with torch.inference_mode():
        for _ in range(count):
            answer.append(int(lm.model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, -1].argmax()))
    return tuple(answer)


def _fail(tokens: int) -> Exception:
    raise AssertionError(f"no memory for {tokens} tokens")


@pytest.fixture(params=ARCHITECTURES, scope="module")
def any_lm(request: pytest.FixtureRequest) -> CausalLM:
    return CausalLM("tiny", "fingerprint", tiny_lm(request.param), byte_tokenizer(), pack_tokens=128)


@pytest.fixture(scope="module")
def prompts(any_lm: CausalLM) -> list[tuple[int, ...]]:
    return [any_lm.tokens(words, start=True) for words in WORDS]


@pytest.mark.parametrize("batch_tokens", [0, 60, 10_000])
def test_answers_in_a_batch_are_those_of_a_whole_pass_for_each_token(
    any_lm: CausalLM, prompts: list[tuple[int, ...]], batch_tokens: int
) -> None:
    limits = [6, 1, 4, 6, 2, 6, 3]
    expected = [_alone(any_lm, prompt, limit) for prompt, limit in zip(prompts, limits, strict=True)]
    assert greedy_tokens(any_lm.model, prompts, limits, lambda _: False, batch_tokens, _fail) == expected


def test_an_answer_that_ends_early_leaves_the_others_as_they_are(
    any_lm: CausalLM, prompts: list[tuple[int, ...]]
) -> None:
    whole = [_alone(any_lm, prompt, 8) for prompt in prompts]
    last = whole[1][2]
    cut = [answer[: answer.index(last) + 1] if last in answer else answer for answer in whole]
    assert len({len(answer) for answer in cut}) > 1
    found = greedy_tokens(any_lm.model, prompts, [8] * 7, lambda answer: answer[-1] == last, 10_000, _fail)
    assert found == cut


def test_a_prompt_without_room_for_an_answer_gets_none(lm: CausalLM) -> None:
    full = (5,) * lm.context
    assert lm.generate([full, full[1:]], ["no such text"], 4)[0] == ""


def test_batches_are_filled_by_length_up_to_their_tokens() -> None:
    assert list(batches([4, 9, 5, 3, 5], [2] * 5, 22)) == [[1, 2], [4, 0, 3]]
    assert list(batches([4, 9], [2, 2], 1)) == [[1], [0]]
    assert list(batches([4, 4], [0, 2], 99)) == [[1]]
    # A long answer counts for every row of its batch.
    assert list(batches([4, 4, 4], [2, 8, 2], 24)) == [[0, 1], [2]]


def test_a_batch_that_memory_does_not_hold_is_continued_in_halves(
    monkeypatch: pytest.MonkeyPatch, lm: CausalLM
) -> None:
    asked: list[int] = []
    real: Callable[..., Any] = generation._continue_together

    def small(model: Any, prompts: Sequence[Any], *more: Any) -> list[tuple[int, ...]]:
        asked.append(len(prompts))
        if len(prompts) > most:
            raise torch.OutOfMemoryError("made up")
        continued: list[tuple[int, ...]] = real(model, prompts, *more)
        return continued

    prompts = [lm.tokens(words, start=True) for words in WORDS]
    expected = lm.generate(prompts, ["no such text"], 5)
    monkeypatch.setattr(generation, "_continue_together", small)
    most = 2
    assert lm.generate(prompts, ["no such text"], 5) == expected
    assert asked == [7, 3, 1, 2, 4, 2, 2]
    most = 0
    with pytest.raises(FeedbackError, match="out of memory with one prompt of"):
        lm.generate(prompts, ["no such text"], 5)


def test_an_end_of_text_ends_an_answer_and_is_no_part_of_it(lm: CausalLM) -> None:
    words, said, end = lm._words, lm.tokens("a b"), (1,)
    assert words.end == 1
    assert not has_ended(words, said, ["\n"]) and has_ended(words, said + end, ["\n"])
    assert answer_text(words, said + end, ["\n"]) == answer_text(words, said, ["\n"]) == "a b"
    assert answer_text(words, (), ["\n"]) == ""
