"""Greedy generation: prompts of similar length share a batch, and finished answers leave it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from udr_training.feedback.local.tokenizer import ModelTokenizer
from udr_training.feedback.packing import Tokens

BATCH_TOKENS = {"cpu": 8192, "cuda": 65536}
"""The largest batch at its end, in tokens including padding, by device."""


def greedy_tokens(
    model: Any,  # noqa: ANN401
    prompts: Sequence[Tokens],
    limits: Sequence[int],
    has_ended: Callable[[Tokens], bool],
    batch_tokens: int,
    memory_error: Callable[[int], Exception],
    on_done: Callable[[int], None] = lambda _: None,
) -> list[Tokens]:
    """Return each prompt's greedy continuation, including the token that ends it.

    Args:
        model: a causal language model of Transformers.
        prompts: tokens.
        limits: the longest answer to each prompt, in tokens; 0 or less leaves it empty.
        has_ended: whether an answer is complete after its newest token.
        batch_tokens: the largest batch at its end, in tokens; 0 generates one prompt at a time, for models that ignore
            masks and positions.
        memory_error: returns the error if memory is too small for one prompt of a length.
        on_done: called with the number of answers after each batch.
    """
    answers: list[Tokens] = [()] * len(prompts)
    waiting = list(batches(list(map(len, prompts)), limits, batch_tokens))[::-1]
    while waiting:
        batch = waiting.pop()
        try:
            results = _continue_together(
                model, [prompts[number] for number in batch], [limits[number] for number in batch], has_ended
            )
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise memory_error(len(prompts[batch[0]])) from error
            middle = len(batch) // 2
            waiting += [batch[middle:], batch[:middle]]
            continue
        for number, answer in zip(batch, results, strict=True):
            answers[number] = answer
        on_done(sum(map(bool, answers)))
    return answers


def batches(lengths: Sequence[int], limits: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Yield batches of prompts of similar length, longest first, as positions in ``lengths``; see ``greedy_tokens``.

    Prompts with a limit of 0 or less are omitted; a prompt longer than a batch gets its own.
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
    has_ended: Callable[[Tokens], bool],
) -> list[Tokens]:
    device, longest = model.device, max(map(len, prompts))
    padding = [longest - len(prompt) for prompt in prompts]
    ids = torch.tensor([[0] * pad + list(prompt) for pad, prompt in zip(padding, prompts, strict=True)], device=device)
    mask = (torch.arange(longest, device=device) >= torch.tensor(padding, device=device)[:, None]).long()
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    answers: list[Tokens] = [()] * len(prompts)
    rows, cache = list(range(len(prompts))), None
    while True:
        # Without padding the model's defaults are right, even if it ignores masks.
        layout = {"attention_mask": mask, "position_ids": positions} if any(padding) else {}
        output = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1, **layout)
        cache = output.past_key_values
        for row, token in zip(rows, output.logits[:, -1].argmax(-1).tolist(), strict=True):
            answers[row] += (token,)
        open_rows = [
            index for index, row in enumerate(rows) if len(answers[row]) < limits[row] and not has_ended(answers[row])
        ]
        if not open_rows:
            return answers
        if len(open_rows) < len(rows):
            kept = torch.tensor(open_rows, device=device)
            cache.batch_select_indices(kept)
            mask, positions, rows = mask[kept], positions[kept], [rows[index] for index in open_rows]
        ids = torch.tensor([[answers[row][-1]] for row in rows], device=device)
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        positions = positions[:, -1:] + 1


def has_ended(tokenizer: ModelTokenizer, answer: Tokens, stop: Sequence[str], *, empty: bool = False) -> bool:
    """Return whether an answer ends with a token that ends it or contains a stop text.

    Line breaks at its beginning are none, unless an answer may be ``empty``.
    """
    text = _text(tokenizer, answer, empty=empty)
    return answer[-1] in tokenizer.ends or any(ending in text for ending in stop)


def answer_text(tokenizer: ModelTokenizer, answer: Tokens, stop: Sequence[str], *, empty: bool = False) -> str:
    """Return an answer's text up to the first stop text; ``empty`` as in ``has_ended``."""
    text = _text(tokenizer, answer[:-1] if tokenizer.ends.intersection(answer[-1:]) else answer, empty=empty)
    for ending in stop:
        text = text.partition(ending)[0]
    return text.strip()


def _text(tokenizer: ModelTokenizer, answer: Tokens, *, empty: bool) -> str:
    text = tokenizer.text(answer)
    return text if empty else text.lstrip("\n")
