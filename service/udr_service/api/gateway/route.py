"""The endpoint: a chat request gets demonstrations for its last user message, and goes to the upstream."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import APIRouter, Depends, Request, Response

from udr.errors import InvalidInputError, UnknownTaskError, brief
from udr.prompts import Layout
from udr.retrieval import RetrievedDemonstration
from udr.types import Fields
from udr_service.api.gateway.demonstrations import PROMPT_ID, TASK, Shown, shown
from udr_service.api.gateway.insertion import SYSTEM, ChatText
from udr_service.api.gateway.upstream import Upstream, UpstreamAnswer
from udr_service.api.retrieval import ServiceDep
from udr_service.api.strict_json import StrictRoute, taken_text
from udr_service.auth import GATEWAY
from udr_service.schemas import ChatBody, ChatOptions, EmbeddingsError
from udr_service.serving import RequestContext, record_of

_INLINE_CHARACTERS = 4096
_ERROR = {"model": EmbeddingsError, "description": "An error, in OpenAI's shape; the upstream's are as it sent them."}
_ANSWER = {"description": "The upstream's answer, as it sent it: JSON, or a stream of events."}

router = APIRouter(responses={200: _ANSWER, "default": _ERROR, 422: _ERROR}, route_class=StrictRoute)


async def upstream_of(request: Request) -> Upstream:
    """Return the upstream of the application."""
    return cast("Upstream", request.app.state.upstream)


@router.post(GATEWAY, response_class=Response)
async def chat_completions(
    body: ChatBody, service: ServiceDep, upstream: Annotated[Upstream, Depends(upstream_of)], request: Request
) -> Response:
    """Put demonstrations for the last user message into a chat, and answer it by the upstream."""
    text = taken_text(request)
    async with service.context(request) as context:
        chat = _Chat.of(body, request.headers.get(TASK), context)
        content, headers = await chat.forwarded(context, text)
    return UpstreamAnswer(upstream, upstream.request(request.scope, content), record_of(request.scope), headers)


@dataclass(frozen=True, slots=True)
class _Chat:
    """A chat request, its task (None if nothing names one), and the upstream's model if the client's named the task."""

    body: ChatBody
    task: str | None
    model: str | None

    @staticmethod
    def of(body: ChatBody, header: str | None, context: RequestContext) -> "_Chat":
        """Return a chat with the task that its field ``udr``, the header or its model names.

        Raises:
            InvalidInputError: they name different tasks; or there are options, but no task.
        """
        prefix, at, model = body.model.partition("@") if isinstance(body.model, str) else ("", "", "")
        # Models, too, have names with an @ in them.
        in_model = prefix if at and prefix in context.tasks else None
        named = {
            f"the header {TASK}": header,
            "the field udr": body.udr.task if body.udr else None,
            f"the model {body.model!r}": in_model,
        }
        tasks = {where: task for where, task in named.items() if task}
        if len(set(tasks.values())) > 1:
            found = ", ".join(f"{where} {task!r}" for where, task in tasks.items())
            raise InvalidInputError(f"a chat has one task; found {found}")
        task = next(iter(tasks.values()), None)
        if task is None and body.udr is not None:
            raise InvalidInputError(
                f"the field udr needs a task: name it there, in the header {TASK}, or as TASK@MODEL"
            )
        return _Chat(body, task, model if in_model else None)

    async def forwarded(self, context: RequestContext, text: str) -> tuple[bytes, Mapping[str, str]]:
        """Return what to send to the upstream, and the headers that tell of the demonstrations in it."""
        if self.task is None:
            return text.encode(), {}
        context.require(self.task)
        if self.task not in context.active.retriever.tasks:
            raise UnknownTaskError(f"unknown task {brief(self.task)}; GET /v1/tasks lists them")
        options = self.body.udr or ChatOptions()
        query = cast("Fields | str", self.body.query() if options.input is None else options.input)
        retrieved: Sequence[RetrievedDemonstration] = ()
        # A chat without a user's message has no place for them, and one without a text has no query.
        asked = "user" in self.body.roles() and bool(not isinstance(query, str) or query.strip())
        if asked:
            retrieved = await context.retrieve(options.to_request(self.task, query, context.service.settings))

        def make() -> tuple[bytes, Mapping[str, str]]:
            demonstrations = self._shown(context, query, retrieved, options)
            task = context.active.retriever.tasks[self.task or ""]
            ids = [item.id for item in demonstrations.demonstrations]
            prompt_id = context.shown(task, ids, query) if asked else None
            named = {} if prompt_id is None else {PROMPT_ID: prompt_id}
            headers = {**demonstrations.headers(task.name), **named}
            return self._edited(text, options.layout, demonstrations).encode(), headers

        if not retrieved and len(text) <= _INLINE_CHARACTERS:
            return make()
        return await context.prepare(lambda stopped: make())

    def _shown(
        self,
        context: RequestContext,
        query: Fields | str,
        retrieved: Sequence[RetrievedDemonstration],
        options: ChatOptions,
    ) -> Shown:
        settings = context.service.settings
        return shown(
            context.active.retriever.tasks[self.task or ""],
            query if isinstance(query, str) else str(query),
            retrieved,
            options,
            context.active.counter(options.tokenizer),
            # The last user message is what the task's field holds, and so are the turns before it.
            plain=options.input is None,
            budget=options.budget if options.budget is not None else settings.gateway_budget,
        )

    def _edited(self, text: str, layout: Layout, demonstrations: Shown) -> str:
        chat, roles = ChatText(text), self.body.roles()
        edits = chat.without("udr")
        if self.model is not None:
            edits.append(chat.replaced("model", self.model))
        if demonstrations.parts and layout is Layout.SYSTEM:
            edits.append(chat.with_instruction(roles, demonstrations.text))
        elif demonstrations.parts:
            first = next((number for number, role in enumerate(roles) if role not in SYSTEM), len(roles))
            edits.append(chat.with_turns(first, [*demonstrations.turns()]))
        return chat.edited(edits)
