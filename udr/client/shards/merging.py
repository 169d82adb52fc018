"""What each shard is asked for a request, and the one answer made of theirs: that of an index of all rows.

A shard returns as many as the answer has, so the nearest of all rows are among what the shards return. The choice in
rounds of labels holds likewise: what a row has before it in its shard, it has before it among all rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from udr.client.shards.placements import Placement, Placements
from udr.data import Filter
from udr.errors import InvalidInputError
from udr.retrieval import Plan, Retrieval, RetrievalRequest, RetrievedDemonstration, choose, make_plan
from udr.search import Hit, nearest

# These compare rows of different shards with each other, or with statistics of all rows.
_WHOLE = {
    "distinct": "compares the vectors of rows with each other",
    "diversity": "compares the vectors of rows with each other",
    "coverage": "reads statistics of all rows",
    "explain": "tells the place of each candidate among all rows",
    "label_head": "needs a head that was fitted on all rows",
}


@dataclass(frozen=True, slots=True)
class ShardedPlan:
    """A valid request.

    Attributes:
        request: the request.
        shards: those that have rows of its tasks.
        asked: what each of them is asked.
        count: how many demonstrations the answer has, at most.
        whole: about the plan that one index of all rows would make, for its cost.
    """

    request: RetrievalRequest
    shards: tuple[Placement, ...]
    asked: RetrievalRequest
    count: int
    whole: Plan


def plan(placements: Placements, request: RetrievalRequest) -> ShardedPlan:
    """Return the plan for a request. One that a single shard can answer goes there as it is.

    Raises:
        UnknownTaskError: no shard has the task or family.
        InvalidInputError: a value is invalid, or an option needs all rows in one index.
        TooLongError: the input is too long.
    """
    searched = [
        name
        for name, task in placements.tasks.items()
        if name == request.task or (request.task is None and request.family in (None, task.family))
    ]
    shards = tuple(shard for shard in placements.shards if any(name in shard.sizes for name in searched))
    row_bytes = max((shard.row_bytes.get(name, 0) for shard in shards for name in searched), default=0)
    if len(shards) == 1:
        text = str(request.input)
        whole = Plan(
            request,
            text,
            text,
            dict.fromkeys(searched, ()),
            sum(shards[0].sizes.get(name, 0) for name in searched),
            copy_text=None if request.max_copy is None else text,
            row_bytes=row_bytes,
            filter=None if request.filter is None else Filter.of(request.filter),
        )
        return ShardedPlan(request, shards, request, 0, whole)
    if shards:
        _refuse_whole(request, shards)
    checked = replace(make_plan(placements.manifest, request), row_bytes=row_bytes)
    # With `fill` a shard that has fewer rows returns those that it has. A head of its own would rank by other numbers.
    asked = replace(request, k=1, fill=True, candidates=checked.num_chosen, label_head=False)
    return ShardedPlan(checked.request, shards, asked, checked.num_chosen, checked)


def _refuse_whole(request: RetrievalRequest, shards: Sequence[Placement]) -> None:
    where = f"its rows are in {len(shards)} shards"
    if request.mode != "dense":
        raise InvalidInputError(f"mode {request.mode!r} reads statistics of all rows, but {where}; omit it")
    for name, why in _WHOLE.items():
        value = getattr(request, name)
        if value is not None and value is not False:
            raise InvalidInputError(f"{name} {why}, but {where}; omit it")
    if request.scope is not None and len({shard.families for shard in shards}) > 1:
        raise InvalidInputError(
            "scope 'all' formats the query with the instructions of all families, but the shards have different "
            "families; give a task or a family"
        )


def merge(
    placements: Placements, plan: ShardedPlan, found: Mapping[str, Retrieval], missing: Sequence[str]
) -> Retrieval:
    """Return the answer made of those that the shards gave, at least one, by the shard's name.

    Equal to that of one index of all rows: ids, order and similarities, if each shard gives a query the same vector.
    """
    answers = list(found.values())
    common = replace(
        answers[0],
        index_version=placements.version,
        model=placements.encoder.name,
        overlay_position=sum(answer.overlay_position for answer in answers),
        missing_shards=tuple(missing),
    )
    if plan.asked is plan.request:
        return common
    return replace(
        common,
        demonstrations=tuple(replace(item, rank=rank) for rank, item in enumerate(_chosen(plan, answers), start=1)),
        copies=sum(answer.copies for answer in answers),
        k=plan.request.k if plan.request.fill else None,
    )


def _chosen(plan: ShardedPlan, answers: Sequence[Retrieval]) -> Iterator[RetrievedDemonstration]:
    items = [item for answer in answers for item in answer]
    hits = nearest(Hit(item.task, at, item.id, item.similarity) for at, item in enumerate(items))
    labels = [items[hit.position].target for hit in hits] if plan.request.balance else None
    similarities = np.array([hit.similarity for hit in hits])
    return (items[hits[n].position] for n in choose(similarities, range(len(hits)), plan.count, labels=labels))
