"""What the endpoints work with: the retriever behind its worker, within the service's limits."""

from collections.abc import Sequence
from dataclasses import dataclass

from udr.errors import InvalidInputError, RequestError
from udr.prompt import PromptBuilder
from udr.retriever import Retriever
from udr.tokenizer import TokenCounter
from udr.types import Retrieval, RetrievalRequest
from udr_service.settings import Settings
from udr_service.worker import Answer, Worker


@dataclass(frozen=True, slots=True)
class Service:
    """A retriever that is served.

    Attributes:
        retriever: what is served.
        worker: calls the retriever, off the event loop.
        tokenizer: counts the tokens of prompts.
        settings: the limits.
    """

    retriever: Retriever
    worker: Worker
    tokenizer: TokenCounter
    settings: Settings

    @property
    def index_version(self) -> str:
        """The version of the index that answers."""
        return self.retriever.index_version

    async def answer(self, requests: Sequence[RetrievalRequest]) -> list[Answer]:
        """Return the answers, in order; a request that cannot be answered leaves the others alone.

        Raises:
            OverloadedError: the queue is full.
        """
        limit = self.settings.max_k
        within = iter(await self.worker.answer([request for request in requests if request.k <= limit]))
        return [
            next(within)
            if request.k <= limit
            else InvalidInputError(f"k must be at most {limit}, the limit of this service; found {request.k}")
            for request in requests
        ]

    async def retrieve(self, request: RetrievalRequest) -> Retrieval:
        """Return the answer to one request.

        Raises:
            RequestError: it cannot be answered.
            OverloadedError: the queue is full.
        """
        (answer,) = await self.answer([request])
        if isinstance(answer, RequestError):
            raise answer
        return answer

    def builder(self, budget: int, reserve: int) -> PromptBuilder:
        """Return a builder of prompts.

        Raises:
            InvalidInputError: the budget is above the limit, or the reserve leaves nothing of it.
        """
        limit = self.settings.max_budget
        if budget > limit:
            raise InvalidInputError(
                f"the budget must be at most {limit} tokens, the limit of this service; found {budget}"
            )
        return PromptBuilder(self.tokenizer, budget, reserve)
