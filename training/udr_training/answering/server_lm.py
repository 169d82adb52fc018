"""A language model behind a server, which answers prompts: in parallel, within a budget, and no prompt twice."""

import asyncio
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from udr.errors import ConfigError, FeedbackError, UdrError
from udr.models import Message
from udr.types import Json
from udr_training.answering.address import Api, LMAddress, read_address
from udr_training.answering.budget import Budget, Spend
from udr_training.answering.http import RefusedError, RequestPolicy, Send, Server
from udr_training.answering.meter import Meter
from udr_training.answering.paid import PaidAnswers, answer_key
from udr_training.answering.prompts import BUDGET, estimated_tokens
from udr_training.answering.replies import Reply, ReplyError, read_reply
from udr_training.answering.settings import ServerSettings

_LOG = logging.getLogger(__name__)

_PATHS = {Api.CHAT: "/chat/completions", Api.COMPLETIONS: "/completions"}
# Responses to GET /models of servers that have no such endpoint.
_NO_LIST = (400, 404, 405, 422, 501)
# Statuses by which a server refuses a request for what it says, such as a prompt that a filter rejects.
_UNWANTED = (400, 413, 422)
# What a chat template may add to a message, in tokens.
_TEMPLATE_TOKENS = 16
# Characters of a prompt, and of a response, in an error.
_SHOWN, _SHOWN_RESPONSE = 60, 200


@dataclass(frozen=True, slots=True)
class Question:
    """What a server is asked once.

    Attributes:
        prompt: a text, or chat messages.
        max_tokens: the longest answer.
        fields: further fields of the request's body.
        sample: its number, if the same is asked several times.
        read: returns what is kept of the parsed response; raises ``ReplyError`` if it is unusable.
        about: the row that errors name; empty shows the end of the prompt.
    """

    prompt: str | tuple[Message, ...]
    max_tokens: int
    fields: Mapping[str, Json] = field(default_factory=dict)
    sample: int = 0
    read: Callable[[object], Reply] = read_reply
    about: str = ""

    @property
    def texts(self) -> list[str]:
        """The texts of the prompt."""
        return [self.prompt] if isinstance(self.prompt, str) else [message["content"] for message in self.prompt]


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
        self._checked_model = self.address.model is not None
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
        if self.address.model is None and self.paid.model(self.address.url) is None:
            self._find_model()
        return self.address.model or self.paid.model(self.address.url) or ""

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
                self._find_model()
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
        bodies = [self._body(question) for question in questions]
        keys = self._keys(questions, bodies)
        replies = {key: reply for key in dict.fromkeys(keys) if (reply := self.paid.get(key)) is not None}
        asked = zip(keys, questions, bodies, strict=True)
        return keys, replies, {key: (question, body) for key, question, body in asked if key not in replies}

    def forget(self, questions: Sequence[Question]) -> None:
        """Drop the kept answers to questions, so that these are asked again."""
        for key in self._keys(questions, [self._body(question) for question in questions]):
            self.paid.forget(key)

    def _body(self, question: Question) -> dict[str, Json]:
        """Return the body of a question's request."""
        prompt: Any = question.prompt
        name = self.address.model or self.paid.model(self.address.url) or None
        body: dict[str, Json] = {
            "model": name,
            **({"prompt": prompt} if self.api is Api.COMPLETIONS else {"messages": list(prompt)}),
            "max_tokens": question.max_tokens,
            "temperature": 0,
            **question.fields,
            **self.settings.body,
        }
        return {field: value for field, value in body.items() if value is not None}

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
        prompt = sum(len(text.encode()) + _TEMPLATE_TOKENS for text in question.texts)
        # Without a limit there is no budget of tokens, so what is reserved does not matter.
        longest = self.settings.longest(question.max_tokens) or 0
        async with self.meter.reserved(prompt, longest * self.settings.num_answers):
            about = question.about or f"the prompt that ends with {question.texts[-1][-_SHOWN:]!r}"
            try:
                response = await send(_PATHS[self.api], {**body, **self._secrets})
            except RefusedError as error:
                if error.status not in _UNWANTED:
                    raise
                only = "if it refuses only this one, shorten or remove the row"
                raise RefusedError(f"{about}: {error}; {only}", error.status) from error
            try:
                reply = question.read(response)
            except ReplyError as error:
                begins = f"it begins with {json.dumps(response, ensure_ascii=False)[:_SHOWN_RESPONSE]}"
                only = "if only this prompt gets such a response, shorten or remove the row"
                raise FeedbackError(f"{about}: {self.name}: {error}; {begins}; {only}") from error
            spend = _spend(question, reply, self.settings.num_answers)
            self.paid.put(key, reply, spend)
            self.meter.pay(spend, kept=True)
        return reply

    def _find_model(self) -> None:
        """Find the name of the server's only model.

        A server that has no list of models is asked without a name.
        """
        if self._checked_model:
            return
        self._checked_model = True
        url, known = self.address.url, self.paid.model(self.address.url)
        names = asyncio.run(self._models())
        if names is not None and len(names) != 1:
            listed = ", ".join(names[:20]) or "none"
            raise ConfigError(f"{url} serves {len(names)} models; name one with ?model=NAME: {listed}")
        if names is None:
            _LOG.warning("%s has no list of models; it is asked without a model's name", url)
        name = names[0] if names else ""
        if known is not None and known != name:
            raise ConfigError(
                f"{self.paid.path} has answers of {known or 'a model without a name'}, but {url} now serves "
                f"{name or 'one without a name'}; give another output, or name the model with ?model=NAME"
            )
        self.paid.set_model(url, name)

    async def _models(self) -> list[str] | None:
        """Return the names of the server's models; None if it has no list of them."""
        body: Any
        try:
            async with self._server.open() as send:
                body = await send("/models", None)
        except RefusedError as error:
            if error.status in _NO_LIST:
                return None
            raise
        except FeedbackError as error:
            raise FeedbackError(f"{error}; no list is needed with ?model=NAME") from error
        models = body.get("data") if isinstance(body, Mapping) else None
        models = models if isinstance(models, list) else []
        return [str(model["id"]) for model in models if isinstance(model, Mapping) and "id" in model]


def _spend(question: Question, reply: Reply, num_answers: int) -> Spend:
    """Return the tokens of a request, estimated if the server does not count them; it is counted itself already."""
    prompt, completion = reply.prompt_tokens, reply.completion_tokens
    known = prompt is not None and completion is not None
    if prompt is None:
        prompt = sum(map(estimated_tokens, question.texts))
    if completion is None:
        completion = num_answers * estimated_tokens(reply.text)
    spend = Spend(0, prompt, completion)
    return spend if known else replace(spend, estimated=1)
