"""Candidates: what a request chooses from, searched for as deep as the choice needs.

Where similarity alone chooses, the k nearest are enough. What bounds, near copies or labels leave out has to be made up
for by what comes next, so the search goes deeper until nothing that it could find would change the choice.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from udr.retrieval.labels import rounds
from udr.retrieval.partitions import Found, Partitions
from udr.retrieval.plan import Plan
from udr.retrieval.selection import Selected, decision, select
from udr.retrieval.types import Decision, Stage
from udr.search import Hit, Vectors, nearest

_DEEPER = 4
"""By how much deeper a search goes each time."""

DEEPEST = 16_384
"""How many of a partition are looked at before a choice makes do with fewer than k: so that no request costs without
end, as one for what is unlike all of a large pool would."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a request chooses.

    Attributes:
        hits: in the order of the choice.
        decisions: what became of each candidate, nearest first; empty unless it was asked to explain.
    """

    hits: Sequence[Hit]
    decisions: tuple[Decision, ...] = ()


def choices(partitions: Partitions, plans: Sequence[Plan], vectors: Mapping[int, Vectors]) -> list[Choice]:
    """Return what each plan chooses.

    Args:
        partitions: what is searched.
        plans: the requests.
        vectors: the queries of those that are not of mode ``bm25``, float32 [dimension], by place in ``plans``.
    """
    made: dict[int, Choice] = {}
    steps = dict.fromkeys(range(len(plans)), 1)
    while steps:
        asked = [plans[number] for number in steps]
        queries = {place: vectors[number] for place, number in enumerate(steps) if number in vectors}
        depths = [plans[number].candidates * step for number, step in steps.items()]
        deeper: dict[int, int] = {}
        for (number, step), found in zip(steps.items(), partitions.search(asked, queries, depths), strict=True):
            plan = plans[number]
            selected, sure = _selected(partitions, plan, vectors.get(number), found, step)
            if sure or plan.candidates * step >= min(partitions.size(plan), DEEPEST):
                hits = [selected.hits[one.place] for one in selected.chosen]
                made[number] = Choice(hits, _told(plan, selected, found) if plan.request.explain else ())
            else:
                deeper[number] = step * _DEEPER
        steps = deeper
    return [made[number] for number in range(len(plans))]


def _selected(
    partitions: Partitions, plan: Plan, vector: Vectors | None, found: Found, step: int
) -> tuple[Selected, bool]:
    """Return what a plan chooses among what was found, and whether nothing that lies deeper could change it."""
    asked = plan.request
    if not asked.balance:
        selected = _among(partitions, plan, nearest(found.hits))
        wanted = plan.candidates if asked.diversity else asked.k
        return selected, len(selected.left) >= wanted or "min_similarity" in _stages(selected).values()
    counts = partitions.label_counts(plan)
    # What is barred may have been counted: as many more may be needed in its place.
    needed = rounds(counts, asked.k + len(found.excluded))
    hits = {(hit.task, hit.id): hit for hit in found.hits}
    proposed = Counter(partitions.labels_of(list(hits.values())))
    if vector is not None and asked.mode == "dense":
        short = {label: number * step for label, number in needed.items() if proposed[label] < number * step}
        hits |= {(hit.task, hit.id): hit for hit in partitions.within(plan, vector, short)}
    ordered = nearest(hits.values())
    labels = partitions.labels_of(ordered)
    selected = _among(partitions, plan, ordered, labels)
    left = Counter(labels[place] for place in selected.left)
    ended = {labels[place] for place, stage in _stages(selected).items() if stage == "min_similarity"}
    return selected, all(left[label] >= number or label in ended for label, number in needed.items())


def _among(partitions: Partitions, plan: Plan, hits: Sequence[Hit], labels: Sequence[str] | None = None) -> Selected:
    asked = plan.request
    vectors = partitions.vectors(hits) if asked.diversity or asked.distinct is not None else None
    return select(hits, asked, candidates=plan.candidates, vectors=vectors, labels=labels)


def _stages(selected: Selected) -> dict[int, Stage]:
    return {place: stage for place, (stage, _) in selected.dropped.items()}


def _told(plan: Plan, selected: Selected, found: Found) -> tuple[Decision, ...]:
    """Return what became of the nearest candidates, and of all that were chosen."""
    asked = plan.request
    told = selected.decisions()
    for hit in found.excluded:
        told[hit.task, hit.id] = (
            decision(hit, "exclude", False, "its id is excluded")
            if hit.id in asked.exclude
            else decision(hit, "copies", False, "its input is the query's, but for case, spaces and punctuation")
        )
    ordered = sorted(told.values(), key=lambda one: (-one.similarity, one.id, one.task))
    return tuple(one for place, one in enumerate(ordered) if place < plan.candidates or one.kept)
