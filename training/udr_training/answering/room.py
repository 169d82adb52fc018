"""The room of an answer in what it shares with its prompt, a budget or a language model's window; and its end."""

import logging
import math
from collections.abc import Sequence
from functools import cache, cached_property

from udr.data import Kind, Pool, Task, formatting
from udr.types import Row
from udr_training.answering.prompts import AnswerForm, PromptSettings, answer_options, estimated_tokens

_LOG = logging.getLogger(__name__)

# Beyond what the longest answer needs: a name for the answer, a full stop, a word of courtesy.
_MARGIN_TOKENS = 24


def longest_answer(task: Task, rows: Sequence[Row], settings: PromptSettings) -> int:
    """Return the tokens that an answer of a server may have, by the longest target of some rows (``answer_room``)."""
    margin = _MARGIN_TOKENS * (1 if settings.form is AnswerForm.TEXT else 2)

    def tokens(row: Row) -> int:
        texts = formatting.output_text(task, row.target), *answer_options(task, row).values()
        return math.ceil(1.5 * max(map(estimated_tokens, texts))) + margin

    needed = [tokens(row) for row in rows]
    return answer_room(task, rows, needed, settings.budget, "budget")


class AnswerRooms:
    """The tokens that a server's answers to queries of a task may have.

    A generated answer may be as long as the pool's longest, which is looked for once; an option only as long as the
    query's longest.
    """

    def __init__(self, pool: Pool, settings: PromptSettings) -> None:
        self._pool, self._settings = pool, settings

    def room(self, query: Row) -> int:
        """Return the tokens of the answer to a query."""
        task = self._pool.task
        return self._longest if task.kind is Kind.GENERATION else longest_answer(task, (query,), self._settings)

    @cached_property
    def _longest(self) -> int:
        return longest_answer(self._pool.task, self._pool.rows, self._settings)


def answer_room(task: Task, rows: Sequence[Row], needed: Sequence[int], shared: int, name: str) -> int:
    """Return the tokens that an answer may have: what the longest target needs, but at most half of what is shared.

    A warning, once, names the row whose target needs more.

    Args:
        task: the task.
        rows: those whose targets an answer may be as long as.
        needed: the tokens that the target of each row needs.
        shared: the tokens that prompt and answer share.
        name: what that is.
    """
    longest, most = max(range(len(rows)), key=needed.__getitem__), max(1, shared // 2)
    if needed[longest] > most:
        _warn(task.name, rows[longest].id, needed[longest], shared, name)
    return min(needed[longest], most)


# Answers are asked for in blocks.
@cache
def _warn(task: str, row: str, needed: int, shared: int, name: str) -> None:
    _LOG.warning(
        "task %s: an answer as long as the target of row %r needs %d tokens, more than half of the %s of %d; answers "
        "get that half, and longer ones are cut; shorten the row or remove it",
        *(task, row, needed, name, shared),
    )


def ends_of(pool: Pool) -> str:
    """Return what ends an answer of a pool's task; empty if only its length does.

    It is the first of these that no target has: a line break; a blank line, which ends each part of a prompt; a blank
    line and the text with which the input template begins, as the next part would.
    """
    template = pool.task.input
    lead = template.source.partition(f"{{{template.fields[0]}}}")[0].rstrip()
    ends = "\n", formatting.SEPARATOR, *([formatting.SEPARATOR + lead] if lead else [])
    return next((end for end in ends if not any(end in row.target for row in pool.rows)), "")
