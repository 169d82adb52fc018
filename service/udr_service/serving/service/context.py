"""How a request is answered once it is planned, and what it writes and counts."""

import asyncio
import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from udr.data import Task, formatting
from udr.errors import (
    DeadlineError,
    InvalidInputError,
    NotWriterError,
    StorageError,
    UdrError,
    UnknownPromptError,
)
from udr.prompts import BuildingOptions, PromptBuilder
from udr.retrieval import Plan, Retrieval, RetrievalRequest
from udr.search import Vectors
from udr.store.live import Change, Outcome
from udr.store.usage import FLUSH_SECONDS, Count, PromptOutcome, Usage, UsageLevel
from udr.types import Fields, Json, Row
from udr_service.serving.service.planning import PlanningContext
from udr_service.serving.work import Embedding, EncodeJob, JobResult

Answer = Retrieval | UdrError
"""The answer to a request of a batch; errors are returned, so that one does not affect the others."""


@dataclass(frozen=True, slots=True)
class RequestContext(PlanningContext):
    """One request of an index while it is answered.

    It sees one version, and what was written to it until the request began: ``partitions``.
    """

    async def do(self, jobs: Sequence[EncodeJob], *, reserved: bool = False) -> list[JobResult]:
        """Run jobs before the deadline; return their results, in order. ``reserved`` is for the probe.

        Raises:
            CostError: the jobs cost more than the queue ever takes.
            OverloadedError: the queue is too full, the deadline too near, or the client above its limits.
            DeadlineError: the deadline has passed; the jobs stop.
        """
        worker = self.service.worker
        self.record.queue_size = worker.waiting
        async with self.deadline():
            left = self.expires - time.perf_counter()
            results = await worker.do(self.active.retriever, jobs, left, client=self.record.client, reserved=reserved)
        self.record.add(results)
        return results

    async def answer(self, requests: Sequence[RetrievalRequest], *, reserved: bool = False) -> list[Answer]:
        """Return the answers, in order; invalid requests do not affect the others. Raises what ``do`` raises."""
        return await self.answers(await self.plans(requests), reserved=reserved)

    async def answers(self, plans: Sequence[Plan | UdrError], *, reserved: bool = False) -> list[Answer]:
        """Return the answers to what was planned, in order. Raises what ``do`` raises."""
        self.record.tasks += [plan.request.task for plan in plans if isinstance(plan, Plan)]
        jobs = [plan for plan in plans if isinstance(plan, Plan)]
        results = iter(await self.do(jobs, reserved=reserved))
        answers = [cast("Retrieval", next(results).result) if isinstance(plan, Plan) else plan for plan in plans]
        for answer in answers:
            if isinstance(answer, Retrieval):
                self.saw(answer.overlay_position)
                if not reserved:
                    self.service.usage.retrieved([(item.task, item.id) for item in answer])
        return answers

    async def retrieve(self, request: RetrievalRequest, *, reserved: bool = False) -> Retrieval:
        """Return the answer to one request; raise what is wrong with it, or what ``do`` raises."""
        (answer,) = await self.answer([request], reserved=reserved)
        if isinstance(answer, UdrError):
            raise answer
        return answer

    async def put(
        self, change: Change, rows: Sequence[Mapping[str, Json]], key: str | None
    ) -> tuple[Outcome, Sequence[Row]]:
        """Put rows; return the outcome, and the rows. Raises what ``do`` and ``Retriever.put`` raise."""
        retriever = self.active.retriever
        draft = await self.prepare(lambda _: retriever.draft(change, rows, key))
        results = await self.do([Embedding(text, "demonstration") for text in draft.texts]) if draft.texts else []
        whole = draft.complete(cast("Vectors", item.result) for item in results)
        return await self.write(whole), whole.rows

    async def write(self, change: Change) -> Outcome:
        """Write a change; it is written even if the client disconnects, or waits no longer.

        Raises:
            DeadlineError: the deadline has passed.
            Exception: what ``Retriever.write`` raises.
        """
        try:
            async with self.deadline():
                if self.service.team is not None:
                    await self.service.team.take_writer_lock()
                outcome = await asyncio.shield(asyncio.wrap_future(self.active.retriever.submit(change)))
        except StorageError as error:
            if not isinstance(error, NotWriterError):
                self.service.current.wrote(str(error))
            raise
        except DeadlineError as error:
            raise DeadlineError(
                f"{error}. It may yet be written: send it again with the same Idempotency-Key, or look at the row"
            ) from error
        self.service.current.wrote()
        self.saw(outcome.position)
        return outcome

    def shown(self, task: Task, ids: Sequence[str], input: Fields | str) -> str | None:
        """Count a prompt and the demonstrations that it shows; return the prompt's name, or None without counts."""
        usage = self.service.usage
        kept = formatting.check_input(task, input) if usage.level is UsageLevel.INPUTS else None
        return usage.prompt(task.name, ids, kept, self.record.key)

    async def tell(self, outcomes: Sequence[PromptOutcome]) -> int:
        """Keep the outcomes of prompts, all or none; return how many replaced an earlier one.

        Raises:
            InvalidInputError: the service keeps no prompts.
            UnknownPromptError: the key has asked for no such prompt, or it is kept no more.
            StorageError: they cannot be stored.
        """
        usage = self._usage()
        tell = functools.partial(usage.tell, outcomes, self._may_tell)
        try:
            return await asyncio.to_thread(tell)
        except UnknownPromptError:
            if self.service.workers == 1:
                raise
        # Another worker answered the prompt, and has it in memory until it flushes.
        await asyncio.sleep(1.5 * FLUSH_SECONDS)
        return await asyncio.to_thread(tell)

    async def counts(self, task: str, ids: Sequence[str]) -> dict[str, Count]:
        """Return the counts of demonstrations; raise an ``InvalidInputError`` if the service counts nothing."""
        return await asyncio.to_thread(self._usage().counts, task, ids)

    def _usage(self) -> Usage:
        if not self.service.usage.counts_usage:
            raise InvalidInputError("this service keeps nothing of its use; start it with --usage counts")
        return self.service.usage

    def _may_tell(self, task: str, owner: str | None) -> bool:
        """Return whether the key may tell of a prompt: if it is for all rows of the task, or asked for the prompt."""
        return task in self.tasks and (self.record.filter is None or owner == self.record.key)

    def change(self, task: str, if_match: str | None) -> Change:
        """Return an empty change for the rows of the request's API key."""
        return Change(task, if_match=if_match, within=self.record.filter, owner=self.record.key or "")

    @property
    def position(self) -> int:
        """The number of the last write that the answer knows of, as far as known."""
        return self.record.overlay_position or 0

    def saw(self, position: int) -> int:
        """Remember that the answer knows of the writes up to a position; return it."""
        self.record.overlay_position = max(position, self.position)
        return position

    def builder(
        self, budget: int, reserve: int, options: BuildingOptions, tokenizer: str | None = None
    ) -> PromptBuilder:
        """Return a prompt builder, by default with the service's first tokenizer.

        Raises:
            InvalidInputError: the budget is above the limit, or not above the reserve; the service has no tokenizer of
                that name.
        """
        limit = self.service.settings.max_budget
        if budget > limit:
            raise InvalidInputError(
                f"the budget must be at most {limit} tokens, the limit of this service; found {budget}"
            )
        return PromptBuilder(self.active.counter(tokenizer), budget, reserve, **options)
