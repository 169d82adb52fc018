"""A language model behind a server, which answers prompts: in parallel, within a budget, and no prompt twice."""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from udr.errors import ConfigError, FeedbackError, UdrError
from udr.types import Json
from udr_training.answering.prompts import BUDGET
from udr_training.answering.server.address import Api, LMAddress, read_address
from udr_training.answering.server.budget import Budget
from udr_training.answering.server.http import RefusedError, RequestPolicy, Send, Server
from udr_training.answering.server.meter import Meter
from udr_training.answering.server.model_name import ModelName
from udr_training.answering.server.paid import PaidAnswers, answer_key
from udr_training.answering.server.question import Question
from udr_training.answering.server.replies import Reply, ReplyError
from udr_training.answering.server.settings import ServerSettings

_PATHS = {Api.CHAT: "/chat/completions", Api.COMPLETIONS: "/completions"}
# Statuses by which a server refuses a request for what it says, such as a prompt that a filter rejects.
_UNWANTED = (400, 413, 422)
# Characters of a response in an error.
_SHOWN_RESPONSE = 200

_Missing = dict[bytes, tuple[Question, dict[str, Json]]]
"""Questions without an answer and the bodies of their requests, by key."""


class ServerLM:
    """A language model behind an OpenAI-compatible server.

    Nothing is sent before the first question that has no answer yet.

    Args:
        name: the address, such as ``http://127.0.0.1:8000/v1?model=NAME&api=chat``.
        settings: how it is asked.
        budget: the most that all answers may cost.
        paid: the answers so far.
        policy: how requests are sent; None takes it from the settings.
        too_long: what to do about a prompt that is too long for the model, as the end of an error.

    Attributes:
        address: the parts of the address.
        name: the address.
        api: what it is asked by.
        settings: how it is asked.
        paid: the answers so far.
        meter: counts what they cost, and holds it to the budget.
        fingerprint: a hash of the address and of the settings that answers depend on; it does not notice a change of
            the model.

    Raises:
        ConfigError: the address is invalid, a key cannot be used, or the budget counts tokens and nothing limits those
            of an answer.
    """

    def __init__(
        self,
        name: str,
        settings: ServerSettings = ServerSettings(),  # noqa: B008
        budget: Budget = Budget(),  # noqa: B008
        paid: PaidAnswers | None = None,
        policy: RequestPolicy | None = None,
        too_long: str = f"give {BUDGET}, so that no prompt has more than N tokens",
    ) -> None:
        self.address: LMAddress = read_address(name)
        if self.address.characters is not None:
            raise ConfigError(f"characters= cuts prompts whose options are scored; for answers, give {BUDGET}")
        self.name, self.api = str(self.address), self.address.api
        if budget.counts_tokens and settings.longest(1) is None:
            raise ConfigError(
                "--max-tokens-total and --max-cost need a limit of the tokens of each answer, but --lm-set "
                f"body.max_tokens={json.dumps(settings.body['max_tokens'])} takes it away; give "
                "--lm-set body.max_completion_tokens=N"
            )
        self.settings, self.paid = settings, paid or PaidAnswers()
        self.meter = Meter(budget, self.paid)
        self._policy = policy or RequestPolicy(
            concurrency=settings.concurrency,
            attempts=settings.attempts,
            timeout_seconds=settings.timeout,
            requests_per_minute=settings.requests_per_minute,
        )
        self._server = Server(
            self.address.url,
            None,
            self._policy,
            headers=settings.secret_headers(),
            query=settings.secret_query(),
            too_long=too_long,
            on_send=self.meter.on_send,
            key_name=settings.key,
            kept=self.paid.kept,
        )
        self._secrets = settings.secret_body()
        self._model = ModelName(self.address, self._server, self.paid)
        identity = [self.address.url, self.address.model, self.api.value, settings.asked]
        self.fingerprint = f"server-{hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]}"

    @property
    def concurrency(self) -> int:
        """The largest number of open requests."""
        return self._policy.concurrency

    @property
    def spent(self) -> str:
        """What all answers have cost, in words."""
        return self.meter.spent

    def model(self) -> str:
        """Return its model's name on the server; empty if the server does not tell.

        The server is asked for the name of its only model, unless it is known; errors as ``ask``.
        """
        if self._model.known is None:
            self._model.check()
        return self._model.known or ""

    def ask(self, questions: Sequence[Question], on_done: Callable[[int], None] = lambda _: None) -> list[Reply]:
        """Return the answer to each question; those that are kept cost nothing.

        If a request fails, those that are open are completed and kept, and no other is sent.

        Args:
            questions: what to ask; equal questions are asked once.
            on_done: called with the number of answers.

        Raises:
            FeedbackError: the server fails or refuses a request, or does not answer it.
            BudgetError: the budget is used up.
            ConfigError: the server has several models, or another one than before.
        """
        keys, replies, missing = self._kept(questions)
        if missing:
            with self.paid.turn():
                self._model.check()
                # The name of the server's model is known now, and another command may have asked some of them.
                keys, replies, missing = self._kept(questions)
                times, done = Counter(keys), sum(key in replies for key in keys)

                def on_reply(key: bytes) -> None:
                    nonlocal done
                    done += times[key]
                    on_done(done)

                if missing:
                    asyncio.run(self._ask(missing, replies, on_reply))
                    return [replies[key] for key in keys]
        on_done(len(keys))
        return [replies[key] for key in keys]

    def _kept(self, questions: Sequence[Question]) -> tuple[list[bytes], dict[bytes, Reply], _Missing]:
        """Return the keys of questions, the replies that are kept, and what is missing."""
        bodies = self._bodies(questions)
        keys = self._keys(questions, bodies)
        replies = {key: reply for key in dict.fromkeys(keys) if (reply := self.paid.get(key)) is not None}
        asked = zip(keys, questions, bodies, strict=True)
        return keys, replies, {key: (question, body) for key, question, body in asked if key not in replies}

    def forget(self, questions: Sequence[Question]) -> None:
        """Drop the kept answers to questions, so that these are asked again."""
        for key in self._keys(questions, self._bodies(questions)):
            self.paid.forget(key)

    def _bodies(self, questions: Sequence[Question]) -> list[dict[str, Json]]:
        """Return the body of each question's request."""
        name = self._model.known or None

        def body(question: Question) -> dict[str, Json]:
            prompt: Any = question.prompt
            fields = {
                "model": name,
                **({"prompt": prompt} if self.api is Api.COMPLETIONS else {"messages": list(prompt)}),
                "max_tokens": question.max_tokens,
                "temperature": 0,
                **question.fields,
                **self.settings.body,
            }
            return {field: value for field, value in fields.items() if value is not None}

        return [body(question) for question in questions]

    def _keys(self, questions: Sequence[Question], bodies: Sequence[Mapping[str, Json]]) -> list[bytes]:
        path = f"{_PATHS[self.api]}?{json.dumps(dict(self.settings.query), sort_keys=True)}"
        if headers := self.settings.plain_headers:
            path += json.dumps(headers, sort_keys=True)
        return [
            answer_key(self.address.url, path, body, question.sample)
            for question, body in zip(questions, bodies, strict=True)
        ]

    async def _ask(
        self,
        missing: _Missing,
        replies: dict[bytes, Reply],
        on_reply: Callable[[bytes], None],
    ) -> None:
        """Add the missing replies, by as many workers as requests may be open."""
        self.meter.start()
        waiting = iter(missing.items())
        failures = list[UdrError]()

        async def work(send: Send) -> None:
            for key, (question, body) in waiting:
                try:
                    replies[key] = await self._answer(send, key, question, body)
                except UdrError as error:
                    failures.append(error)
                if failures:
                    return
                on_reply(key)

        async with self._server.open() as send:
            workers = min(self._policy.concurrency, len(missing))
            await asyncio.gather(*(work(send) for _ in range(workers)))
        if failures:
            raise failures[0]

    async def _answer(self, send: Send, key: bytes, question: Question, body: dict[str, Json]) -> Reply:
        # Without a limit there is no budget of tokens, so what is reserved does not matter.
        longest = self.settings.longest(question.max_tokens) or 0
        async with self.meter.reserved(question.most_tokens, longest * self.settings.num_answers):
            try:
                response = await send(_PATHS[self.api], {**body, **self._secrets})
            except RefusedError as error:
                if error.status not in _UNWANTED:
                    raise
                only = "if it refuses only this one, shorten or remove the row"
                raise RefusedError(f"{question.shown}: {error}; {only}", error.status) from error
            try:
                reply = question.read(response)
            except ReplyError as error:
                begins = f"it begins with {json.dumps(response, ensure_ascii=False)[:_SHOWN_RESPONSE]}"
                only = "if only this prompt gets such a response, shorten or remove the row"
                raise FeedbackError(f"{question.shown}: {self.name}: {error}; {begins}; {only}") from error
            spend = question.spend(reply, self.settings.num_answers)
            self.paid.put(key, reply, spend)
            self.meter.pay(spend, kept=True)
        return reply
