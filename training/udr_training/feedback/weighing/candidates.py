"""How well a weight orders the scored candidates of the queries that training held out."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from udr.data import query_fields
from udr.retrieval import Retriever
from udr_training.candidates import RankedExample, ndcg, rank_all, ranks
from udr_training.config import RunConfig
from udr_training.feedback.export import scored_pairs
from udr_training.feedback.scoring import pair_score
from udr_training.run_folder import RunFolder

_DEEPEST = 4096
"""Demonstrations that are ranked for each query; candidates beyond them come last."""


def watched(run: Path) -> dict[str, Sequence[RankedExample]]:
    """Return, by task, the queries that a run held out of its trainings, with their ranked candidates.

    Of a run that trained nothing, these are all.

    Raises:
        ArtifactError: there is no such run, no language model scored it, or its tasks have changed.
    """
    folder = RunFolder(run)
    # Of runs that only score, no query was learned from.
    trained = (folder.iteration(0) / "model").is_dir()
    scores: defaultdict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    for pair, _, likelihoods in scored_pairs(folder):
        scores[pair.task.name][pair.query.id, pair.demonstration.id] = pair_score(pair, likelihoods)
    examples = {name: rank_all(pairs) for name, pairs in scores.items()}
    if not trained:
        return dict(examples)
    train, first = folder.config(RunConfig).train, folder.candidates(1)
    # New queries of later iterations are all learned from.
    asked = {name: [example for example in own if example.query_id in first[name]] for name, own in examples.items()}
    return {name: own[train.num_learned(len(own)) :] for name, own in asked.items()}


def learned(folder: RunFolder, watched: Mapping[str, Sequence[RankedExample]]) -> dict[str, set[str]]:
    """Return the ids of the rows that a run took as queries, by task: scored ones, and those with extrapolated scores.

    Those that are ``watched`` are not among them.
    """
    asked = folder.candidates()
    taken = {name: asked[name].keys() - {example.query_id for example in own} for name, own in watched.items()}
    for file in folder.path.glob("iteration-*/extrapolated/*.json"):
        if file.stem in taken:
            taken[file.stem] |= json.loads(file.read_text("utf-8")).get("scores", {}).keys()
    return taken


def ndcg_values(
    retriever: Retriever, name: str, examples: Sequence[RankedExample], weights: Sequence[float]
) -> NDArray[np.float64]:
    """Return the NDCG@8 of each query's candidates in the order of each weight, [queries, weights]."""
    task, k = retriever.tasks[name], min(retriever.sizes[name], _DEEPEST)
    ids = {id for example in examples for id in (example.query_id, *example.candidates)}
    rows = {id: retriever.demonstration(name, id) for id in ids}
    values = np.empty((len(examples), len(weights)))
    for column, weight in enumerate(weights):
        for number, example in enumerate(examples):
            query = query_fields(task, rows[example.query_id])
            found = retriever.retrieve(name, query, k, mode="hybrid", weight=weight)
            values[number, column] = ndcg(_order(example, [item.id for item in found]))
    return values


def _order(example: RankedExample, found: Iterable[str]) -> list[int]:
    """Return the ranks by score of an example's candidates, in the order found; those that are not come last, by id."""
    by_id = dict(zip(example.candidates, ranks(example.scores), strict=True))
    first = [id for id in found if id in by_id]
    return [by_id[id] for id in (*first, *sorted(by_id.keys() - set(first)))]
