"""Chat requests to the gateway: what it reads of them; the rest is the upstream's."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from udr.prompts import Layout, Order, check_seed
from udr.retrieval import DefaultK, RetrievalRequest
from udr_service.schemas.requests import Input, OneOf, Selection
from udr_service.settings import Settings


class ChatOptions(Selection):
    """The field ``udr`` of a chat request: which demonstrations it gets, and how they are shown."""

    task: str | None = Field(default=None, description="If absent, the header X-Udr-Task or TASK@MODEL names it.")
    input: Input | None = Field(
        default=None, description="The query; if absent, the text of the last user message, for a task with one field."
    )
    budget: int | None = Field(default=None, ge=1, description="Tokens that the demonstrations may add.")
    tokenizer: str | None = Field(
        default=None, description="Which of the service's tokenizers counts; /v1/info lists them, the default first."
    )
    order: OneOf[Order] = Field(default=Order.NEAREST_LAST, description="The order of the demonstrations.")
    seed: int = Field(default=0, description="The seed of the order shuffle; only for that.")
    layout: OneOf[Layout] = Field(
        default=Layout.TURNS, description="Turns after the system messages, or texts in the first one."
    )

    def to_request(self, task: str, input: Mapping[str, Any] | str, settings: Settings) -> RetrievalRequest:
        """Return the core's request; what it leaves open is as the service's settings say.

        Raises:
            InvalidInputError: there is a seed, and the order is no shuffle.
        """
        check_seed(self.order, self.seed)
        options: dict[str, Any] = {"k": DefaultK(settings.gateway_k)}
        lowest, highest = settings.gateway_min_similarity, self.max_similarity
        if self.mode == "dense":
            # In other modes, a similarity has another scale. A chat that asks for less than the bound gets nothing.
            options["min_similarity"] = lowest if lowest is None or highest is None else min(lowest, highest)
        return RetrievalRequest(**{**options, **self.options(), "task": task, "input": input})


class ChatBody(BaseModel):
    """A chat request. Only ``udr`` is checked here; what else may be wrong with it, the upstream says."""

    model_config = ConfigDict(extra="allow", frozen=True)
    KEEPS_TEXT: ClassVar[bool] = True

    model: Any = Field(default=None, description="MODEL, or TASK@MODEL with a task that the service has.")
    messages: Any = Field(default=None, description="As the upstream takes them.")
    udr: ChatOptions | None = None

    def roles(self) -> list[object]:
        """Return the role of each message; empty if there are no messages."""
        return [message.get("role") if isinstance(message, dict) else None for message in self._messages()]

    def query(self) -> str:
        """Return the text of the last user message; empty if there is none."""
        asked = (message for message in reversed(self._messages()) if isinstance(message, dict))
        return "\n".join(_texts(next((message for message in asked if message.get("role") == "user"), {})))

    def _messages(self) -> list[Any]:
        return self.messages if isinstance(self.messages, list) else []


def _texts(message: Mapping[str, Any]) -> Iterator[str]:
    """Yield the texts of a message, which has one, or parts of several kinds."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    for part in parts:
        if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
            yield part["text"]
