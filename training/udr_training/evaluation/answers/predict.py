"""A language model's answers to prompts with demonstrations."""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from udr.data import Kind, Pool, Task, formatting
from udr.errors import FeedbackError
from udr.types import Row
from udr_training.evaluation.answers.predictions import Answer
from udr_training.evaluation.retrievers import Shown
from udr_training.feedback import FeedbackLM, option_values, prompt_of
from udr_training.feedback.local import Writer, WritingLM
from udr_training.feedback.packing import Likelihoods, Prompt

_LOG = logging.getLogger(__name__)


class AnsweringLM(FeedbackLM, WritingLM, Protocol):
    """A language model that answers; for the oracle it scores, too."""

    name: str

    def likelihoods(self, prompts: Sequence[Prompt], on_done: Callable[[int], None] = ...) -> list[Likelihoods]:
        """Return the likelihoods of each prompt's options; ``on_done`` is called with the number of prompts done."""


def predict(
    lm: AnsweringLM,
    pool: Pool,
    queries: Sequence[Row],
    shown: Sequence[Shown],
    shots: int,
    on_done: Callable[[int], None] = lambda _: None,
    writer: Writer | None = None,
) -> list[Answer]:
    """Return the language model's answer to each query: the likeliest option, or greedy text.

    Each is after at most ``shots`` of the query's demonstrations; those that do not fit the model's window are left
    out, with a warning. For generation, the targets of the pool determine when an answer ends: ``writer`` has read
    them, or else one is made. ``on_done`` is called with the number of answers, now and then.

    Raises:
        FeedbackError: a query is too long, even without demonstrations.
    """
    task = pool.task
    writer = (writer or Writer(lm, pool)) if task.kind is Kind.GENERATION else None
    room = writer.room if writer else None
    laid_out = [_lay_out(lm, task, query, item, shots, room) for query, item in zip(queries, shown, strict=True)]
    _say_shorter(lm, task, [min(shots, len(item.rows)) for item in shown], laid_out)
    prompts = [prompt for _, prompt in laid_out]
    texts = writer.write(prompts, on_done) if writer else _likeliest(lm, task, queries, prompts, on_done)
    return [
        Answer(query.id, tuple(row.id for row in rows), text)
        for query, (rows, _), text in zip(queries, laid_out, texts, strict=True)
    ]


def _likeliest(
    lm: AnsweringLM, task: Task, queries: Sequence[Row], prompts: Sequence[Prompt], on_done: Callable[[int], None]
) -> list[str]:
    likeliest = [int(option_values(task, item).argmax()) for item in lm.likelihoods(prompts, on_done)]
    return [formatting.targets(task, query)[option] for query, option in zip(queries, likeliest, strict=True)]


def _lay_out(
    lm: AnsweringLM, task: Task, query: Row, shown: Shown, shots: int, room: int | None
) -> tuple[list[Row], Prompt]:
    """Return the prompt of a query, and the demonstrations in it; see ``predict``."""

    def prompt_with(positions: Sequence[int]) -> tuple[list[Row], Prompt]:
        rows = shown.prompt(positions)
        return rows, prompt_of(lm, task, query, rows, answer_tokens=room)

    chosen = range(min(shots, len(shown.rows)))
    with suppress(FeedbackError):
        result = prompt_with(chosen)
        if not result[1].lost:
            return result
    # As in the prompts of users, the best come first, none is cut, and what does not fit after those is skipped.
    taken: list[int] = []
    result = prompt_with(taken)
    for position in chosen:
        with suppress(FeedbackError):
            longer = prompt_with([*taken, position])
            if not longer[1].lost:
                result = longer
                taken.append(position)
    return result


def _say_shorter(
    lm: AnsweringLM, task: Task, wanted: Sequence[int], laid_out: Sequence[tuple[list[Row], Prompt]]
) -> None:
    if fewer := sum(len(rows) < count for count, (rows, _) in zip(wanted, laid_out, strict=True)):
        message = "task %s: %d of %d prompts show fewer demonstrations than %d, to fit the language model's window of "
        _LOG.warning(f"{message}%d tokens", task.name, fewer, len(laid_out), max(wanted), lm.context)
