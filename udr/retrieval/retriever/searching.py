"""Answers to requests from an open version: planned, encoded and searched, one by one or together."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Unpack

from udr.data import Filter
from udr.errors import RequestError
from udr.retrieval.executor import choices
from udr.retrieval.partitions import Partitions
from udr.retrieval.planning import EVEN, Plan, make_plan, planning_characters
from udr.retrieval.retriever.version import OpenVersion
from udr.retrieval.stopping import Stopped, never
from udr.retrieval.types import DEFAULT_K, Retrieval, RetrievalOptions, RetrievalRequest, Scale
from udr.search import Vectors
from udr.types import Fields

_SCALES: Mapping[str, Scale] = {"bm25": "bm25", "hybrid": "reciprocal_ranks"}


class Searching(OpenVersion):
    """What a ``Retriever`` answers requests by."""

    def retrieve(
        self,
        task: str | None = None,
        input: Fields | str | None = None,
        k: int = DEFAULT_K,
        **options: Unpack[RetrievalOptions],
    ) -> Retrieval:
        """Return the k nearest demonstrations; ``RetrievalRequest`` documents the arguments.

        Raises:
            UnknownTaskError: the index has no such task or family.
            InvalidInputError: the input does not fit the task, k is out of range, ...
            TooLongError: the input has more than ``max_characters`` characters.
            ConfigError: there is no such option.
        """
        (result,) = self.answer([RetrievalRequest.of(task, input, k, options)])
        if isinstance(result, RequestError):
            raise result
        return result

    def retrieve_batch(self, requests: Iterable[RetrievalRequest]) -> list[Retrieval]:
        """Return the results of several requests, encoded together.

        They equal those of single calls if the encoder's vectors do not depend on the batch. A real encoder's differ
        in the last bits, which can affect the fifth decimal of a similarity.

        Raises:
            RequestError: a request is invalid; the message gives the number of the first, from 1.
        """
        retrievals: list[Retrieval] = []
        for number, result in enumerate(self.answer(requests), start=1):
            if isinstance(result, RequestError):
                raise type(result)(f"request {number}: {result}") from result
            retrievals.append(result)
        return retrievals

    def answer(self, requests: Iterable[RetrievalRequest]) -> list[Retrieval | RequestError]:
        """Return the results of several requests, encoded together; an invalid one gives its error."""
        plans: list[Plan | RequestError] = []
        partitions = self.partitions()
        for request in requests:
            try:
                plans.append(self.plan(request, partitions=partitions))
            except RequestError as error:
                plans.append(error)
        valid = [result for result in plans if isinstance(result, Plan)]
        read = self.encode_each({index: plan.query_texts for index, plan in enumerate(valid) if plan.encoded})
        copies = {index: [plan.copy_text] for index, plan in enumerate(valid) if plan.copy_text is not None}
        near = {index: own[0] for index, own in self.encode_each(copies, "demonstration").items()}
        vectors = {index: own[0] for index, own in read.items()}
        fields = {index: own[1:] for index, own in read.items() if len(own) > 1}
        retrievals = iter(self.search(valid, vectors, near, fields))
        return [next(retrievals) if isinstance(result, Plan) else result for result in plans]

    def planning_characters(self, request: RetrievalRequest) -> int:
        """Return about how many characters ``plan`` will read: those of the input, by each task; at no cost.

        It tells whether to plan at once or in a thread, and raises nothing, even if the request is invalid.
        """
        return planning_characters(self._manifest, request)

    def searched(self, request: RetrievalRequest) -> list[str]:
        """Return the tasks that a request searches; none if it names one that is not there."""
        if request.task is not None:
            return [request.task] if request.task in self.tasks else []
        return [name for name, task in self.tasks.items() if request.family in (None, task.family)]

    def plan(
        self,
        request: RetrievalRequest,
        *,
        stopped: Stopped = never,
        partitions: Partitions | None = None,
        within: Filter | None = None,
    ) -> Plan:
        """Return the plan for a request, checked against the index; the first of three steps.

        Args:
            request: the request.
            stopped: whether nobody waits for the plan any more; looked at between tasks.
            partitions: what it sees, if several are to see the same; by default what one that starts now sees.
            within: a filter of the only rows that it sees, for a tenant.

        Raises:
            RequestError: the request is invalid.
            StoppedError: nobody waits for the plan any more.
            ConfigError: the retriever is closed, or this process is a fork of the one that opened it.
        """
        self._refuse_fork()
        partitions = partitions or self.partitions()
        checked = partitions.seen(make_plan(self._manifest, request, stopped, partitions.view.sizes), within)
        weight = request.weight if request.weight is not None else self.weights.get(request.task or "", EVEN)
        return replace(checked, row_bytes=partitions.row_bytes(checked), weight=weight)

    def search(
        self,
        plans: Sequence[Plan],
        vectors: Mapping[int, Vectors],
        copies: Mapping[int, Vectors] | None = None,
        fields: Mapping[int, Vectors] | None = None,
        *,
        stopped: Callable[[int], bool] = lambda number: False,
    ) -> list[Retrieval]:
        """Return the results of plans, in order; the last step.

        Args:
            plans: plans of this retriever.
            vectors: query vectors of the encoded plans, float32 [dimension], by index in ``plans``.
            copies: vectors of the queries as demonstrations, likewise; for plans with a ``copy_text``.
            fields: vectors of their fields, float32 [num_fields, dimension], likewise; for plans with ``field_texts``.
            stopped: whether nobody waits for the result of a plan any more, by index in ``plans``; its result is then
                empty, and those of the others are as without it. It is called often, in loops, so it must be fast.
        """
        self._refuse_closed()
        results: dict[int, Retrieval] = {}
        for partitions, numbers in _by_partitions(plans, self._partitions):
            some = [plans[number] for number in numbers]
            own, near, apart = (
                {place: given[number] for place, number in enumerate(numbers) if number in given}
                for given in (vectors, copies or {}, fields or {})
            )
            chosen = choices(partitions, some, own, near, apart, partial(_stopped_at, stopped, numbers))
            found = partitions.demonstrations([choice.hits for choice in chosen])
            for number, plan, choice, demonstrations in zip(numbers, some, chosen, found, strict=True):
                results[number] = Retrieval(
                    demonstrations=demonstrations,
                    index_version=self.index_version,
                    overlay_position=partitions.view.position,
                    model=self.model,
                    scale=_SCALES.get(plan.request.mode, self.encoder.metric),
                    copies=choice.copies,
                    k=plan.request.k if plan.request.fill else None,
                    decisions=choice.decisions,
                )
        return [results[number] for number in range(len(plans))]


def _by_partitions(plans: Sequence[Plan], latest: Partitions) -> Iterator[tuple[Partitions, list[int]]]:
    """Yield what plans are to be searched in, with the plans' numbers: all in one, unless something was written."""
    numbers: dict[Partitions, list[int]] = {}
    for number, plan in enumerate(plans):
        numbers.setdefault(plan.partitions or latest, []).append(number)
    yield from numbers.items()


def _stopped_at(stopped: Callable[[int], bool], numbers: Sequence[int], place: int) -> bool:
    return stopped(numbers[place])
