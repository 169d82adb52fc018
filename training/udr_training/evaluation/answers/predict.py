"""A language model's answers to prompts with demonstrations."""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from udr.data import Kind, Pool, Task, formatting
from udr.errors import FeedbackError
from udr.types import Row
from udr_training.answering import answer_room
from udr_training.evaluation.answers.predictions import Answer
from udr_training.evaluation.retrievers import Shown
from udr_training.feedback import FeedbackLM, option_values, prompt_of
from udr_training.feedback.packing import Likelihoods, Prompt, Tokens

_LOG = logging.getLogger(__name__)

# A generated answer may be longer than the pool's longest target by this.
_EXTRA_TOKENS = 8


class AnsweringLM(FeedbackLM, Protocol):
    """A language model that answers; for the oracle it scores, too."""

    name: str

    def likelihoods(self, prompts: Sequence[Prompt], on_done: Callable[[int], None] = ...) -> list[Likelihoods]:
        """Return the likelihoods of each prompt's options; ``on_done`` is called with the number of prompts done."""

    def generate(
        self,
        prompts: Sequence[Tokens],
        stop: Sequence[str],
        max_new_tokens: int,
        on_done: Callable[[int], None] = ...,
        *,
        empty: bool = ...,
    ) -> list[str]:
        """Return each prompt's continuation, cut before the first of the stop texts; whether it may be ``empty``."""


def predict(
    lm: AnsweringLM,
    pool: Pool,
    queries: Sequence[Row],
    shown: Sequence[Shown],
    shots: int,
    on_done: Callable[[int], None] = lambda _: None,
) -> list[Answer]:
    """Return the language model's answer to each query: the likeliest option, or greedy text.

    Each is after at most ``shots`` of the query's demonstrations; those that do not fit the model's window are left
    out, with a warning. For generation, the targets of the pool determine when an answer ends. ``on_done`` is called
    with the number of answers, now and then.

    Raises:
        FeedbackError: a query is too long, even without demonstrations.
    """
    task, room = pool.task, None
    if task.kind is Kind.GENERATION:
        needed = [len(lm.tokens(row.target)) + _EXTRA_TOKENS for row in pool.rows]
        room = answer_room(task, pool.rows, needed, lm.context, "language model's window")
    laid_out = [_lay_out(lm, task, query, item, shots, room) for query, item in zip(queries, shown, strict=True)]
    _say_shorter(lm, task, [min(shots, len(item.rows)) for item in shown], laid_out)
    texts = _answers(lm, pool, queries, [prompt for _, prompt in laid_out], room, on_done)
    return [
        Answer(query.id, tuple(row.id for row in rows), text)
        for query, (rows, _), text in zip(queries, laid_out, texts, strict=True)
    ]


def _answers(
    lm: AnsweringLM,
    pool: Pool,
    queries: Sequence[Row],
    prompts: Sequence[Prompt],
    room: int | None,
    on_done: Callable[[int], None],
) -> list[str]:
    task = pool.task
    if room is None:
        likeliest = [int(option_values(task, item).argmax()) for item in lm.likelihoods(prompts, on_done)]
        return [formatting.targets(task, query)[option] for query, option in zip(queries, likeliest, strict=True)]
    tail = task.output.source.partition("{target}")[2].rstrip()
    # Or else a model that answers with the blank line after an empty target would go on.
    empty = not all(row.target.strip() for row in pool.rows)
    texts = lm.generate([prompt.context for prompt in prompts], [ends_of(pool)], room, on_done, empty=empty)
    return [text.removesuffix(tail).rstrip() for text in texts]


def _lay_out(
    lm: AnsweringLM, task: Task, query: Row, shown: Shown, shots: int, room: int | None
) -> tuple[list[Row], Prompt]:
    """Return the prompt of a query, and the demonstrations in it; see ``predict``."""

    def prompt_with(positions: Sequence[int]) -> tuple[list[Row], Prompt]:
        rows = shown.prompt(positions)
        return rows, prompt_of(lm, task, query, rows, answer_tokens=room)

    chosen = range(min(shots, len(shown.rows)))
    with suppress(FeedbackError):
        return prompt_with(chosen)
    # As in the prompts of users, the best come first, and what does not fit after those is skipped.
    taken: list[int] = []
    result = prompt_with(taken)
    for position in chosen:
        with suppress(FeedbackError):
            result = prompt_with([*taken, position])
            taken.append(position)
    return result


def _say_shorter(
    lm: AnsweringLM, task: Task, wanted: Sequence[int], laid_out: Sequence[tuple[list[Row], Prompt]]
) -> None:
    prompts, window = [prompt for _, prompt in laid_out], f"the language model's window of {lm.context} tokens"
    if fewer := sum(len(rows) < count for count, (rows, _) in zip(wanted, laid_out, strict=True)):
        message = "task %s: %d of %d prompts show fewer demonstrations than %d, to fit %s"
        _LOG.warning(message, task.name, fewer, len(prompts), max(wanted), window)
    if cut := sum(prompt.lost > 0 for prompt in prompts):
        message = "task %s: %d of %d prompts are cut by %d tokens of demonstrations' inputs, to fit %s"
        _LOG.warning(message, task.name, cut, len(prompts), sum(prompt.lost for prompt in prompts), window)


def ends_of(pool: Pool) -> str:
    """Return what ends an answer of a pool's task.

    A blank line ends a target of several lines, as any part of a prompt; a line break ends one-line targets.
    """
    return formatting.SEPARATOR if any("\n" in row.target for row in pool.rows) else "\n"
