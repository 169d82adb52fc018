"""A language model's answers to prompts with demonstrations."""

from collections.abc import Sequence
from typing import Protocol

from udr.data import Kind, Pool, formatting
from udr.types import Row
from udr_training.feedback import FeedbackLM, option_values, prompt_of
from udr_training.feedback.packing import Likelihoods, Prompt, Tokens

# No answer is longer than the longest target of the pool, by much.
_EXTRA_TOKENS = 8


class AnsweringLM(FeedbackLM, Protocol):
    """What a language model that answers is to an evaluation; it scores as well, for the oracle."""

    name: str

    def likelihoods(self, prompts: Sequence[Prompt]) -> list[Likelihoods]:
        """Return what the model says of each prompt's options."""

    def generate(self, prompts: Sequence[Tokens], stop: Sequence[str], max_new_tokens: int) -> list[str]:
        """Return each prompt's continuation, cut before the first of the stop texts."""


def predict(lm: AnsweringLM, pool: Pool, queries: Sequence[Row], demonstrations: Sequence[Sequence[Row]]) -> list[str]:
    """Return the language model's answer to each query: the likeliest option, or greedy text.

    Args:
        lm: the language model.
        pool: the task's demonstrations; for generation, its targets tell when an answer ends.
        queries: rows of the task.
        demonstrations: for each query, nearest first; the prompt shows the nearest last.
    """
    shown = [list(reversed(nearest_first)) for nearest_first in demonstrations]
    answer = _generated if pool.task.kind is Kind.GENERATION else _chosen
    return answer(lm, pool, queries, shown)


def _chosen(lm: AnsweringLM, pool: Pool, queries: Sequence[Row], shown: Sequence[Sequence[Row]]) -> list[str]:
    task = pool.task
    prompts = [prompt_of(lm, task, query, rows) for query, rows in zip(queries, shown, strict=True)]
    answers = []
    for query, likelihoods in zip(queries, lm.likelihoods(prompts), strict=True):
        answers.append(formatting.targets(task, query)[int(option_values(task, likelihoods).argmax())])
    return answers


def _generated(lm: AnsweringLM, pool: Pool, queries: Sequence[Row], shown: Sequence[Sequence[Row]]) -> list[str]:
    task = pool.task
    room = max(len(lm.tokens(row.target)) for row in pool.rows) + _EXTRA_TOKENS
    prompts = [prompt_of(lm, task, query, rows, answer_tokens=room) for query, rows in zip(queries, shown, strict=True)]
    # A target of several paragraphs ends at a blank line like any other part; a line ends one-line targets.
    stop = [formatting.SEPARATOR] if any("\n" in row.target for row in pool.rows) else ["\n"]
    tail = task.output.source.partition("{target}")[2].rstrip()
    texts = lm.generate([sum(prompt.parts, ()) for prompt in prompts], stop, room)
    return [answer.removesuffix(tail).rstrip() for answer in texts]
