"""Greedy text: prompts of like length are continued together, and an answer that has ended leaves its batch."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from udr_training.feedback.local.tokenizer import ModelTokenizer
from udr_training.feedback.packing import Tokens

BATCH_TOKENS = {"cpu": 8192, "cuda": 65536}
"""The most tokens a batch holds at its end, padding counted, by device."""

Ended = Callable[[Tokens], bool]
"""Whether an answer, its last token new, is whole."""


def greedy_tokens(
    model: Any,  # noqa: ANN401
    prompts: Sequence[Tokens],
    limits: Sequence[int],
    ended: Ended,
    batch_tokens: int,
    no_memory: Callable[[int], Exception],
) -> list[Tokens]:
    """Return each prompt's likeliest next tokens, one at a time; what ends an answer is its last token.

    Args:
        model: a causal language model of Transformers.
        prompts: tokens.
        limits: the most tokens of each answer; 0 and less leave it empty.
        ended: tells when an answer is whole.
        batch_tokens: the most tokens of a batch at its end; 0 continues each prompt alone, which a model that heeds
            neither mask nor positions needs.
        no_memory: what to raise where memory holds not even one prompt, by its length.
    """
    answers: list[Tokens] = [()] * len(prompts)
    waiting = list(batches(list(map(len, prompts)), limits, batch_tokens))[::-1]
    while waiting:
        batch = waiting.pop()
        try:
            found = _continue_together(
                model, [prompts[number] for number in batch], [limits[number] for number in batch], ended
            )
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise no_memory(len(prompts[batch[0]])) from error
            middle = len(batch) // 2
            waiting += [batch[middle:], batch[:middle]]
            continue
        for number, answer in zip(batch, found, strict=True):
            answers[number] = answer
    return answers


def batches(lengths: Sequence[int], limits: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Cut prompts into batches, longest first, so that those of one batch need little padding.

    Args:
        lengths: of the prompts, in tokens.
        limits: the most tokens of each answer; a prompt without room for one is in no batch.
        batch_tokens: the most tokens of a batch at its end; a prompt of more is a batch of its own.

    Yields:
        Positions in ``lengths``.
    """
    batch: list[int] = []
    limit = 0
    for number in sorted(range(len(lengths)), key=lambda number: (-lengths[number], number)):
        if limits[number] <= 0:
            continue
        limit = max(limit, limits[number])
        if batch and (lengths[batch[0]] + limit) * (len(batch) + 1) > batch_tokens:
            yield batch
            batch, limit = [], limits[number]
        batch.append(number)
    if batch:
        yield batch


@torch.inference_mode()
def _continue_together(
    model: Any,  # noqa: ANN401
    prompts: Sequence[Tokens],
    limits: Sequence[int],
    ended: Ended,
) -> list[Tokens]:
    device, longest = model.device, max(map(len, prompts))
    padding = [longest - len(prompt) for prompt in prompts]
    ids = torch.tensor([[0] * pad + list(prompt) for pad, prompt in zip(padding, prompts, strict=True)], device=device)
    mask = (torch.arange(longest, device=device) >= torch.tensor(padding, device=device)[:, None]).long()
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    answers: list[Tokens] = [()] * len(prompts)
    rows, cache = list(range(len(prompts))), None
    while True:
        # Without padding a model's own defaults are right, whether or not it can be told.
        layout = {"attention_mask": mask, "position_ids": positions} if any(padding) else {}
        output = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1, **layout)
        cache = output.past_key_values
        for row, token in zip(rows, output.logits[:, -1].argmax(-1).tolist(), strict=True):
            answers[row] += (token,)
        more = [place for place, row in enumerate(rows) if len(answers[row]) < limits[row] and not ended(answers[row])]
        if not more:
            return answers
        if len(more) < len(rows):
            places = torch.tensor(more, device=device)
            cache.batch_select_indices(places)
            mask, positions, rows = mask[places], positions[places], [rows[place] for place in more]
        ids = torch.tensor([[answers[row][-1]] for row in rows], device=device)
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        positions = positions[:, -1:] + 1


def has_ended(words: ModelTokenizer, answer: Tokens, stop: Sequence[str]) -> bool:
    """Say whether an answer ends with the end of a text, or holds one of the stop texts."""
    return answer[-1] == words.end or any(ending in _text(words, answer) for ending in stop)


def answer_text(words: ModelTokenizer, answer: Tokens, stop: Sequence[str]) -> str:
    """Return an answer as text, cut before the first of the stop texts."""
    whole = _text(words, answer[:-1] if answer[-1:] == (words.end,) else answer)
    for ending in stop:
        whole = whole.partition(ending)[0]
    return whole.strip()


def _text(words: ModelTokenizer, answer: Tokens) -> str:
    # Line breaks that an answer begins with end nothing.
    return words.text(answer).lstrip("\n")
