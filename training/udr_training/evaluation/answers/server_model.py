"""A language model behind a server, in an evaluation: it writes its answers, which are read as one of the options."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from udr.data import Kind, Pool, Task
from udr.prompts import Format
from udr.types import Json, Row
from udr_training.answering import (
    MORE_TOKENS,
    AnswerForm,
    AnswerRooms,
    Api,
    BuiltPrompt,
    ParsedAnswer,
    Parsing,
    PromptSettings,
    PromptWriter,
    Question,
    Reply,
    ServerLM,
    ends_of,
    form_fields,
    parse_answer,
)
from udr_training.evaluation.answers.predictions import Answer, Answering
from udr_training.evaluation.retrievers import Shown
from udr_training.feedback import FeedbackLM, PairScorer
from udr_training.feedback.remote import ChatLogprobs, MetricScorer, RemoteLM

_LOG = logging.getLogger(__name__)


class ServerModel:
    """A chat or completions server that answers.

    Args:
        lm: the server's model.
        prompts: how its prompts are built.

    Raises:
        ModelError: the tokenizer cannot be loaded.
    """

    def __init__(
        self,
        lm: ServerLM,
        prompts: PromptSettings = PromptSettings(),  # noqa: B008
    ) -> None:
        self._lm, self._prompts = lm, prompts
        self._writer = PromptWriter(prompts, Format.MESSAGES if lm.api is Api.CHAT else Format.TEXT)
        self._stops = lm.api is Api.COMPLETIONS
        if prompts.tokenizer is None:
            _LOG.info("prompts are counted by an estimate, a token for 3 bytes; --tokenizer NAME counts them")

    @property
    def name(self) -> str:
        """See ``AnsweringModel``."""
        return self._lm.name

    @property
    def fingerprint(self) -> str:
        """See ``AnsweringModel``."""
        return self._lm.fingerprint

    @property
    def dtype(self) -> str:
        """See ``AnsweringModel``."""
        return self._lm.api.value

    @property
    def settings(self) -> dict[str, Json]:
        """See ``AnsweringModel``."""
        return {"prompts": self._prompts.to_json()}

    @property
    def spent(self) -> str:
        """See ``AnsweringModel``."""
        return self._lm.spent

    @property
    def note(self) -> str:
        """See ``AnsweringModel``."""
        return self.spent

    def scorer(self, task: Task) -> FeedbackLM | PairScorer:
        """See ``AnsweringModel``; a completions server echoes prompts, a chat server answers."""
        if self._lm.api is Api.COMPLETIONS:
            echoing = RemoteLM(self._lm)
            echoing.check()
            return echoing
        # The first token of an answer as JSON tells nothing of it.
        prompts = replace(self._prompts, form=AnswerForm.TEXT)
        return (MetricScorer if task.kind is Kind.GENERATION else ChatLogprobs)(self._lm, prompts)

    def answering(self, pool: Pool) -> Answering:
        """See ``AnsweringModel``."""
        return partial(self._answers, pool, AnswerRooms(pool, self._prompts))

    def _answers(
        self,
        pool: Pool,
        answer_rooms: AnswerRooms,
        queries: Sequence[Row],
        shown: Sequence[Shown],
        shots: int,
        on_done: Callable[[int], None],
    ) -> list[Answer]:
        task, form = pool.task, self._prompts.form
        rooms = [answer_rooms.room(query) for query in queries]
        built = [
            self._writer.build(task, query, item.rows[:shots], item.order, item.seed, room)
            for query, item, room in zip(queries, shown, rooms, strict=True)
        ]
        ends = ends_of(pool)
        stop: dict[str, Json] = {"stop": [ends]} if self._stops and ends else {}
        questions = [
            Question(
                prompt.prompt,
                room,
                {**form_fields(task, query, form), **stop},
                about=f"task {task.name!r}, row {query.id!r} after {', '.join(prompt.shown) or 'no demonstrations'}",
            )
            for query, prompt, room in zip(queries, built, rooms, strict=True)
        ]
        self._say_fewer(pool, shown, built, shots)
        replies = self._lm.ask(questions, on_done)
        parsed = [
            parse_answer(task, query, reply.text, form, one_line=ends == "\n")
            for query, reply in zip(queries, replies, strict=True)
        ]
        self._say_cut(task, replies, parsed)
        return [
            Answer(query.id, prompt.shown, answer.text, reply.text, answer.parsing)
            for query, prompt, answer, reply in zip(queries, built, parsed, replies, strict=True)
        ]

    def _say_cut(self, task: Task, replies: Sequence[Reply], parsed: Sequence[ParsedAnswer]) -> None:
        cut = [answer.parsing for reply, answer in zip(replies, parsed, strict=True) if reply.finish == "length"]
        if cut:
            message = "task %s: %d of %d answers were cut, and %d of these are unparsable; %s"
            _LOG.warning(message, task.name, len(cut), len(replies), cut.count(Parsing.UNPARSABLE), MORE_TOKENS)

    def _say_fewer(self, pool: Pool, shown: Sequence[Shown], built: Sequence[BuiltPrompt], shots: int) -> None:
        fewer = sum(len(prompt.shown) < min(shots, len(item.rows)) for item, prompt in zip(shown, built, strict=True))
        if fewer:
            message = "task %s: %d of %d prompts show fewer demonstrations than %d, to fit --budget %d"
            _LOG.warning(message, pool.task.name, fewer, len(built), shots, self._prompts.budget)
