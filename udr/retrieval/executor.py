"""The hits that plans choose, searched for as deep as each choice needs.

If similarity alone chooses, the k nearest are enough. Hits that bounds, near copies or labels drop are replaced by the
next ones, so the search goes deeper until no deeper hit could change the choice.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from udr.retrieval.partitions import Partitions, SearchResult
from udr.retrieval.plan import Plan
from udr.retrieval.selection import Selected, cosines, decision, rounds, select
from udr.retrieval.types import Decision
from udr.search import Hit, Vectors, nearest

_DEEPER = 4
"""The factor by which each further search is deeper."""

DEEPEST = 16_384
"""How many hits of a partition are searched before a choice settles for fewer than k. It bounds the cost of a request,
such as one for demonstrations unlike all of a large pool."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The hits that a request chooses, in the order of choice; how many are left out as copies; and if the request
    explains, the outcome for each candidate.
    """

    hits: Sequence[Hit]
    copies: int
    decisions: tuple[Decision, ...] = ()


def choices(
    partitions: Partitions, plans: Sequence[Plan], vectors: Mapping[int, Vectors], copies: Mapping[int, Vectors]
) -> list[Choice]:
    """Return what each plan chooses.

    Args:
        partitions: what to search.
        plans: the plans.
        vectors: query vectors, float32 [dimension], by index in ``plans``; none for mode ``bm25``.
        copies: vectors of the queries as demonstrations, likewise; only for plans with ``max_copy``.
    """
    results: dict[int, Choice] = {}
    steps = dict.fromkeys(range(len(plans)), 1)
    while steps:
        queries = {index: vectors[number] for index, number in enumerate(steps) if number in vectors}
        depths = [plans[number].candidates * step for number, step in steps.items()]
        searched = partitions.search([plans[number] for number in steps], queries, depths)
        deeper: dict[int, int] = {}
        for (number, step), depth, result in zip(steps.items(), depths, searched, strict=True):
            plan = plans[number]
            selected, final = _select(partitions, plan, vectors.get(number), copies.get(number), result, step)
            if final or depth >= min(partitions.size(plan), DEEPEST):
                hits = [selected.hits[index] for index in selected.chosen]
                near = sum(stage == "copies" for stage, _ in selected.dropped.values())
                decisions = _decisions(plan, selected, result) if plan.request.explain else ()
                results[number] = Choice(hits, partitions.num_copies(plan) + near, decisions)
            else:
                deeper[number] = step * _DEEPER
        steps = deeper
    return [results[number] for number in range(len(plans))]


def _select(
    partitions: Partitions, plan: Plan, vector: Vectors | None, copy: Vectors | None, result: SearchResult, step: int
) -> tuple[Selected, bool]:
    """Return a plan's selection among the hits of a search, and whether no deeper hit could change it."""
    request, hits, labels, needed = plan.request, nearest(result.hits), None, dict[str, int]()
    if request.balance:
        # The counts include excluded rows, so the choice may need as many more.
        needed = rounds(partitions.label_counts(plan), plan.num_chosen + len(result.excluded))
        if vector is not None and request.mode == "dense":
            counts = Counter(partitions.labels_of(hits))
            short = {label: number * step for label, number in needed.items() if counts[label] < number * step}
            hits = nearest(
                {(hit.task, hit.id): hit for hit in (*hits, *partitions.within(plan, vector, short))}.values()
            )
        labels = partitions.labels_of(hits)
    compares = request.diversity or request.distinct is not None or copy is not None
    vectors = partitions.vectors(hits) if compares else None
    selected = select(
        hits,
        request,
        candidates=plan.candidates,
        num_chosen=plan.num_chosen,
        vectors=vectors,
        labels=labels,
        copies=None if vectors is None or copy is None else cosines(vectors, copy),
    )
    # All hits deeper than one below the lower bound are below it, too.
    below = [index for index, (stage, _) in selected.dropped.items() if stage == "min_similarity"]
    if labels is None:
        return selected, bool(below) or len(selected.left) >= (
            plan.candidates if request.diversity else plan.num_chosen
        )
    left, complete = Counter(labels[index] for index in selected.left), {labels[index] for index in below}
    return selected, all(left[label] >= number or label in complete for label, number in needed.items())


def _decisions(plan: Plan, selected: Selected, result: SearchResult) -> tuple[Decision, ...]:
    """Return the outcome for each of the nearest candidates, and for all chosen ones."""
    ranks = result.ranks()
    decisions = selected.decisions(ranks)
    for hit in result.excluded:
        if hit.id in plan.request.exclude:
            decisions.append(decision(hit, "exclude", False, "its id is excluded"))
        else:
            reason = "its input equals the query's, ignoring case, spaces and punctuation"
            decisions.append(decision(hit, "copies", False, reason))
    decisions.sort(key=lambda item: (-item.similarity, item.id, item.task))
    return tuple(item for index, item in enumerate(decisions) if index < plan.candidates or item.kept)
