"""The requests that an evaluation sends to a server (``udr evaluate --dry-run``): counted, nothing is asked."""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean

from udr.data import Collection, Pool, sample
from udr.models import ChatCounter, TokenCounter, load_tokenizer
from udr.prompts import Format, Order
from udr.types import Json, Row
from udr_training.answering import (
    UNIT,
    AnswerForm,
    AnswerRooms,
    Api,
    EstimatedTokens,
    PaidAnswers,
    PromptSettings,
    PromptWriter,
    Spend,
    answer_options,
    read_address,
    read_settings,
)
from udr_training.evaluation.answers import ANSWERS, ModelOptions
from udr_training.evaluation.config import EvaluationConfig
from udr_training.evaluation.retrievers import ORACLE

# Test rows of a task whose prompts are built; the others count as much.
_ROWS = 100


@dataclass(frozen=True, slots=True)
class RequestPlan:
    """What an evaluation asks of a server.

    Attributes:
        test_rows: of all tasks.
        requests: one for each answer.
        prompt_tokens: of their prompts: those of at most 100 test rows of each task, with random demonstrations.
        answer_tokens: of the answers, as long as the targets of these rows.
        oracle: whether there is an oracle, whose requests are not counted: how many it sends depends on the server.
        sent: the requests that were sent before, which count towards a budget. What they answered is not asked for
            again, so the evaluation may send fewer than ``requests``.
        cost: of all these tokens; None without prices.
        exceeds: the option with a limit that this and what was spent before exceed, and the limit; None if none.
    """

    test_rows: int
    requests: int
    prompt_tokens: int
    answer_tokens: int
    oracle: bool
    sent: int = 0
    cost: float | None = None
    exceeds: str | None = None

    def to_json(self) -> dict[str, Json]:
        """Return the plan as JSON."""
        return asdict(self)

    @property
    def line(self) -> str:
        """The plan for people."""
        told = (
            f"{self.requests:,} requests with about {self.prompt_tokens:,} tokens of prompts and, if answers are as "
            f"long as the targets, {self.answer_tokens:,} of answers"
        )
        if self.cost is not None:
            told += f", which cost {f'about {self.cost:.2f}' if self.cost >= 0.01 else 'less than 0.01'} {UNIT}"
        if self.exceeds is not None:
            exceeding = "with those sent before, that can be" if self.sent else "that is"
            told += f"; {exceeding} more than {self.exceeds} allows"
        if self.oracle:
            told += "; those of the oracle, at least one for each candidate, come on top"
        told += ". Nothing was asked."
        if self.sent:
            sent = "1 request was" if self.sent == 1 else f"{self.sent:,} requests were"
            told += f" {sent} sent before, which count towards a budget; what was answered is not asked for again."
        most = self.requests + self.sent
        return told if self.oracle else f"{told} To ask for no more than that: --max-requests {most}"


def plan_requests(
    collection: Collection, config: EvaluationConfig, model: ModelOptions, output: Path | None = None
) -> RequestPlan:
    """Count the requests of an evaluation of these tasks by a server, and their tokens, by building some prompts.

    Args:
        collection: the tasks.
        config: the evaluation.
        model: the server, its prompts, and what its answers may cost.
        output: the directory of the evaluation, which may keep answers.

    Raises:
        ModelError: the tokenizer cannot be loaded.
        TooLongError: a query does not fit the budget of a prompt.
    """
    settings, chat = model.prompts, read_address(model.name).api is Api.CHAT
    writer = PromptWriter(settings, Format.MESSAGES if chat else Format.TEXT)
    counter: TokenCounter = EstimatedTokens() if settings.tokenizer is None else load_tokenizer(settings.tokenizer)
    num_answers, draw = read_settings(model.settings).num_answers, random.Random(config.seed)
    rows, requests, tokens, answers = 0, 0, 0.0, 0.0
    for folder in collection.tasks.values():
        queries, pool = sample(folder.rows("test"), config.limit, config.seed), folder.pool(config.pool, config.seed)
        rows += len(queries)
        some, prompts = queries[:_ROWS], _Prompts(settings, writer, counter, pool)
        answer = fmean(map(prompts.answer_tokens, some))
        for shots in config.shots:
            # Without demonstrations, all retrievers share the answers.
            count = len(queries) * (len(config.parsed) if shots else 1)
            requests += count
            shown = [draw.sample(pool.rows, min(shots, len(pool))) for _ in some]
            tokens += count * fmean(map(prompts.tokens, some, shown))
            answers += count * answer * num_answers
    spend, spent = Spend(requests, round(tokens), round(answers)), _spent(output)
    return RequestPlan(
        test_rows=rows,
        requests=requests,
        prompt_tokens=spend.prompt_tokens,
        answer_tokens=spend.completion_tokens,
        oracle=any(parsed.source == ORACLE for parsed in config.parsed),
        sent=spent.requests,
        cost=None if model.budget.prices is None else round(model.budget.cost(spend), 6),
        exceeds=model.budget.exceeded_by(spend + spent),
    )


@dataclass(frozen=True)
class _Prompts:
    """The prompts of one task, built and counted as the evaluation does."""

    settings: PromptSettings
    writer: PromptWriter
    counter: TokenCounter
    pool: Pool

    def tokens(self, query: Row, shown: Sequence[Row]) -> int:
        """Return the tokens of the prompt of a query with these demonstrations."""
        room = self._rooms.room(query)
        prompt = self.writer.build(self.pool.task, query, shown, Order.NEAREST_LAST, 0, room).prompt
        if isinstance(prompt, str):
            return self.counter.count(prompt)
        if isinstance(self.counter, ChatCounter) and self.counter.has_chat_template:
            return self.counter.count_messages(prompt)
        return sum(self.counter.count(message["content"]) + self.settings.message_tokens for message in prompt)

    def answer_tokens(self, query: Row) -> int:
        """Return the tokens of the right answer to a query."""
        answer = answer_options(self.pool.task, query).get(query.target, query.target)
        as_json = self.settings.form is not AnswerForm.TEXT
        return self.counter.count(json.dumps({"answer": answer}, ensure_ascii=False) if as_json else answer)

    @cached_property
    def _rooms(self) -> AnswerRooms:
        return AnswerRooms(self.pool, self.settings)


def _spent(output: Path | None) -> Spend:
    """Return what an evaluation has spent before."""
    if output is None or not (output / ANSWERS).is_file():
        return Spend()
    with PaidAnswers(output / ANSWERS) as paid:
        return paid.spend
