"""A language model's answers to prompts with demonstrations."""

from collections.abc import Callable, Sequence
from typing import Protocol

from udr.data import Kind, Pool, formatting
from udr.types import Row
from udr_training.answering import answer_room
from udr_training.feedback import FeedbackLM, option_values, prompt_of
from udr_training.feedback.packing import Likelihoods, Prompt, Tokens

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
    demonstrations: Sequence[Sequence[Row]],
    on_done: Callable[[int], None] = lambda _: None,
) -> list[str]:
    """Return the language model's answer to each query: the likeliest option, or greedy text.

    Each query's demonstrations are given in the order of the prompt. For generation, the targets of the pool determine
    when an answer ends. ``on_done`` is called with the number of answers, now and then.
    """
    task, shown = pool.task, list(zip(queries, demonstrations, strict=True))
    if task.kind is not Kind.GENERATION:
        likelihoods = lm.likelihoods([prompt_of(lm, task, query, rows) for query, rows in shown], on_done)
        likeliest = [int(option_values(task, item).argmax()) for item in likelihoods]
        return [formatting.targets(task, query)[option] for query, option in zip(queries, likeliest, strict=True)]
    needed = [len(lm.tokens(row.target)) + _EXTRA_TOKENS for row in pool.rows]
    room = answer_room(task, pool.rows, needed, lm.context, "language model's window")
    prompts = [prompt_of(lm, task, query, rows, answer_tokens=room) for query, rows in shown]
    tail = task.output.source.partition("{target}")[2].rstrip()
    # Or else a model that answers with the blank line after an empty target would go on.
    empty = not all(row.target.strip() for row in pool.rows)
    texts = lm.generate([prompt.context for prompt in prompts], [ends_of(pool)], room, on_done, empty=empty)
    return [text.removesuffix(tail).rstrip() for text in texts]


def ends_of(pool: Pool) -> str:
    """Return what ends an answer of a pool's task.

    A blank line ends a target of several lines, as any part of a prompt; a line break ends one-line targets.
    """
    return formatting.SEPARATOR if any("\n" in row.target for row in pool.rows) else "\n"
