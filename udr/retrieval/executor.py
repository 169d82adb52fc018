"""The hits that plans choose, searched for as deep as each choice needs.

If similarity alone chooses, the k nearest are enough. Hits that bounds, near copies or labels drop are replaced by the
next ones, so the search goes deeper until no deeper hit could change the choice.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from udr.errors import StoppedError
from udr.retrieval.partitions import Partitions, SearchResult
from udr.retrieval.planning import DEEPEST, Plan
from udr.retrieval.selection import Selected, cosines, decision, rounds, select
from udr.retrieval.stopping import Stopped, refuse_stopped
from udr.retrieval.types import Decision, RetrievalRequest
from udr.search import DECIMALS, Chances, Hit, Vectors, nearest

_DEEPER = 4
"""The factor by which each further search is deeper."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The hits that a request chooses, in the order of choice; how many are left out as copies; and if the request
    explains, the outcome for each candidate.
    """

    hits: Sequence[Hit]
    copies: int
    decisions: tuple[Decision, ...] = ()


def choices(
    partitions: Partitions,
    plans: Sequence[Plan],
    vectors: Mapping[int, Vectors],
    copies: Mapping[int, Vectors],
    fields: Mapping[int, Vectors],
    stopped: Callable[[int], bool],
) -> list[Choice]:
    """Return what each plan chooses; nothing for a plan that nobody waits for any more.

    Args:
        partitions: what to search.
        plans: the plans.
        vectors: query vectors, float32 [dimension], by index in ``plans``; none for mode ``bm25``.
        copies: vectors of the queries as demonstrations, likewise; only for plans with ``max_copy``.
        fields: vectors of the ``field_texts`` of plans that have any, float32 [num_fields, dimension], likewise.
        stopped: whether nobody waits for a plan any more, by index.
    """
    results: dict[int, Choice] = {}
    chances = partitions.chances(plans, vectors, fields)
    # Once for all searches, since it takes time if there are many.
    equal = [partitions.copies(plan, partial(stopped, number)) for number, plan in enumerate(plans)]
    steps = dict.fromkeys(range(len(plans)), 1)
    while steps := {number: step for number, step in steps.items() if not stopped(number)}:
        numbers, deeper = list(steps), dict[int, int]()
        queries = {index: vectors[number] for index, number in enumerate(numbers) if number in vectors}
        labels = {index: chances[number] for index, number in enumerate(numbers) if number in chances}
        depths = [_depth(plans[number], step) for number, step in steps.items()]
        stops = [partial(stopped, number) for number in numbers]
        asked, out = [plans[number] for number in numbers], [equal[number] for number in numbers]
        searched = partitions.search(asked, out, queries, labels, depths, stops)
        for number, depth, result, stop in zip(numbers, depths, searched, stops, strict=True):
            query = vectors.get(number), copies.get(number), chances.get(number)
            selection = _Selection(partitions, plans[number], *query, stop)
            try:
                choice = selection.choice(result, steps[number], last=depth >= min(plans[number].size, DEEPEST))
            except StoppedError:
                continue
            if choice is None:
                deeper[number] = steps[number] * _DEEPER
            else:
                results[number] = choice
        steps = deeper
    return [results.get(number, Choice((), 0)) for number in range(len(plans))]


def _depth(plan: Plan, step: int) -> int:
    return min(plan.candidates * step, max(plan.candidates, DEEPEST))


@dataclass(frozen=True, slots=True)
class _Selection:
    """A plan's selection among the hits of searches, by its vector and that of the query as a demonstration.

    ``chances`` are those of the query's labels, [num_labels], if a label head ranks.
    """

    partitions: Partitions
    plan: Plan
    vector: Vectors | None
    copy: Vectors | None
    chances: Chances | None
    stopped: Stopped

    def choice(self, result: SearchResult, step: int, *, last: bool) -> Choice | None:
        """Return the choice among the hits of a search; None if deeper hits could change it, unless it is the last."""
        refuse_stopped(self.stopped)
        selected, final = self._select(result, step)
        if not (final or last):
            return None
        hits = [selected.hits[index] for index in selected.chosen]
        near = sum(stage == "copies" for stage, _ in selected.dropped.values())
        decisions = (
            _decisions(self.plan, selected, result, self._notes(selected, result)) if self.plan.request.explain else ()
        )
        return Choice(hits, result.copies + near, decisions)

    def _notes(self, selected: Selected, result: SearchResult) -> dict[tuple[str, int], str]:
        """Return what ranked each hit, in words, by task and position, if that is not its similarity alone."""
        notes = result.ranks()
        if self.chances is not None:
            for key, words in self.partitions.added(self.chances, selected.hits).items():
                notes[key] = f"{notes[key]}; {words}" if key in notes else words
        return notes

    def _select(self, result: SearchResult, step: int) -> tuple[Selected, bool]:
        """Return the selection, and whether no deeper hit could change it."""
        plan, request, partitions = self.plan, self.plan.request, self.partitions
        hits, labels, needed = result.hits, None, dict[str, int]()
        if request.balance:
            # The counts include excluded rows, so the choice may need as many more.
            needed = rounds(partitions.label_counts(plan), plan.num_chosen + len(result.excluded))
            if self.vector is not None and request.mode == "dense":
                counts = Counter(partitions.labels_of(hits))
                short = {label: number * step for label, number in needed.items() if counts[label] < number * step}
                within = partitions.within(plan, self.vector, self.chances, short, result.left_out, self.stopped)
                hits = nearest({(hit.task, hit.id): hit for hit in (*hits, *within)}.values())
            labels = partitions.labels_of(hits)
        compares = request.diversity or request.distinct is not None or self.copy is not None
        vectors = partitions.vectors(hits) if compares else None
        selected = select(
            hits,
            request,
            candidates=plan.candidates,
            num_chosen=plan.num_chosen,
            vectors=vectors,
            labels=labels,
            aspects=partitions.aspects(plan, self.chances, hits, self.stopped) if request.coverage else None,
            copies=None if vectors is None or self.copy is None else cosines(vectors, self.copy),
            stopped=self.stopped,
        )
        if labels is None:
            return selected, _ended(hits, request) or len(selected.left) >= (
                plan.candidates if request.weighs else plan.num_chosen
            )
        # All hits of a label deeper than one below the lower bound are below it, too.
        below = [index for index, (stage, _) in selected.dropped.items() if stage == "min_similarity"]
        left, complete = Counter(labels[index] for index in selected.left), {labels[index] for index in below}
        return selected, all(left[label] >= number or label in complete for label, number in needed.items())


def _ended(hits: Sequence[Hit], request: RetrievalRequest) -> bool:
    """Return whether all hits deeper than these are below the lower bound: a label head only adds to a similarity."""
    lowest = request.min_similarity
    return lowest is not None and bool(hits) and round(hits[-1].ranked_by, DECIMALS) < lowest


def _decisions(
    plan: Plan, selected: Selected, result: SearchResult, notes: Mapping[tuple[str, int], str]
) -> tuple[Decision, ...]:
    """Return the outcome for each of the nearest candidates, and for all chosen ones."""
    decisions, exclude = selected.decisions(notes), set(plan.request.exclude)
    for hit in result.excluded:
        if hit.id in exclude:
            decisions.append(decision(hit, "exclude", False, "its id is excluded"))
        else:
            reason = "its input equals the query's, ignoring case, spaces and punctuation other than operators"
            decisions.append(decision(hit, "copies", False, reason))
    decisions.sort(key=lambda item: (-item.ranked_by, item.id, item.task))
    return tuple(item for index, item in enumerate(decisions) if index < plan.candidates or item.kept)
