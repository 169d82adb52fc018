"""The weight of hybrid searches, by task: the one that orders watched queries' candidates most like the scores."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from udr.data import query_fields
from udr.errors import ConfigError
from udr.files import locked
from udr.retrieval import Retriever
from udr.store import open_version, read_weights, write_weights
from udr_training.candidates import RankedExample, ndcg, rank_all, ranks
from udr_training.config import RunConfig
from udr_training.feedback.export import exported
from udr_training.run_folder import RunFolder

_LOG = logging.getLogger(__name__)

WEIGHTS = tuple(round(0.1 * step, 1) for step in range(11))
"""The weights of the encoder's ranking that are tried."""

_EVEN = WEIGHTS.index(0.5)
_DEEPEST = 4096
"""Demonstrations that are ranked for each query; candidates beyond them come last."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """A task's weight, and the mean NDCG@8 of its watched queries with each of ``WEIGHTS``."""

    task: str
    queries: int
    weight: float
    ndcg: tuple[float, ...]

    def __str__(self) -> str:
        bm25, even, dense = self.ndcg[0], self.ndcg[_EVEN], self.ndcg[-1]
        chosen = self.ndcg[WEIGHTS.index(self.weight)]
        others = f"BM25 {bm25:.3f}, both alike {even:.3f}, the encoder {dense:.3f}"
        return f"{self.task}: weight {self.weight:g}, NDCG {chosen:.3f} over {self.queries} queries ({others})"


def best_weight(values: NDArray[np.float64]) -> int:
    """Return the column of [queries, weights] to choose: the one nearest to even that is as good as the best.

    As good means that its mean lies within one standard error of the best one's, query by query (the rule of Breiman et
    al., 1984): a few watched queries do not move the weight by chance. Ties go to BM25's side.
    """
    best = int(values.mean(axis=0).argmax())
    behind = values[:, [best]] - values
    errors = behind.std(axis=0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.full(values.shape[1], np.inf)
    good = np.flatnonzero(behind.mean(axis=0) <= errors)
    return int(min(good, key=lambda column: (abs(column - _EVEN), column)))


def weigh(run: Path, index: Path) -> list[Weighed]:
    """Set the weight of hybrid searches of an index's tasks by the scores of a run, and store it in the index.

    Watched queries are those that training held out; of a run that trained nothing, all. Tasks that the run lacks keep
    the weight that they have, and so do tasks with a label head: it ranks their searches, but has seen the labels of
    the queries, which are rows of the pool.

    Raises:
        ArtifactError: there is no run or no index, its tasks or language model have changed, or a command runs in it.
        ConfigError: they share no task with scores and without a label head, or the index lacks BM25 or a scored row.
    """
    examples, version = watched(run), open_version(index)
    parts = version.manifest.partitions
    shared = [name for name in parts if examples.get(name)]
    if not shared:
        raise ConfigError(
            f"{run} has no watched query of a task of {index}; its tasks are {', '.join(examples) or 'none'}"
        )
    tasks = [name for name in shared if parts[name].label_head is None]
    if headed := [name for name in shared if parts[name].label_head is not None]:
        what = f"{index}: label heads rank {', '.join(headed)}, and have seen the labels of the run's queries"
        if not tasks:
            raise ConfigError(f"{what}, so no weight can be told; build without: udr index build --no-label-head")
        _LOG.warning("%s; weights of these tasks stay as they are", what)
    if lacking := [name for name in tasks if not parts[name].lexical]:
        raise ConfigError(f"{index} has no BM25 for {', '.join(lacking)}; build it again: udr index build")
    with Retriever.of_version(version) as retriever:
        results = [_weighed(retriever, name, examples[name]) for name in tasks]
    with locked(index):
        stored = read_weights(version.path, version.manifest)
        new = {result.task: result.weight for result in results}
        write_weights(version.path, version.manifest, {**stored, **new})
    return results


def watched(run: Path) -> dict[str, Sequence[RankedExample]]:
    """Return, by task, the queries that a run held out of its trainings, with their ranked candidates.

    Of a run that trained nothing, these are all.

    Raises:
        ArtifactError: there is no such run, or its tasks or language model have changed.
    """
    folder = RunFolder(run)
    # Of runs that only score, no query was learned from.
    trained = (folder.iteration(0) / "model").is_dir()
    scores: defaultdict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    for pair in exported(run):
        scores[str(pair["task"])][str(pair["query_id"]), str(pair["demonstration_id"])] = float(str(pair["score"]))
    examples = {name: rank_all(pairs) for name, pairs in scores.items()}
    if not trained:
        return dict(examples)
    train, first = folder.config(RunConfig).train, folder.candidates(1)
    # New queries of later iterations are all learned from.
    asked = {name: [example for example in own if example.query_id in first[name]] for name, own in examples.items()}
    return {name: own[train.num_learned(len(own)) :] for name, own in asked.items()}


def _weighed(retriever: Retriever, name: str, examples: Sequence[RankedExample]) -> Weighed:
    task, k = retriever.tasks[name], min(retriever.sizes[name], _DEEPEST)
    ids = {id for example in examples for id in (example.query_id, *example.candidates)}
    rows = {id: retriever.demonstration(name, id) for id in ids}
    values = np.empty((len(examples), len(WEIGHTS)))
    for column, weight in enumerate(WEIGHTS):
        for number, example in enumerate(examples):
            query = query_fields(task, rows[example.query_id])
            found = retriever.retrieve(name, query, k, mode="hybrid", weight=weight)
            values[number, column] = ndcg(_order(example, [item.id for item in found]))
    column = best_weight(values)
    return Weighed(name, len(examples), WEIGHTS[column], tuple(values.mean(axis=0).tolist()))


def _order(example: RankedExample, found: Iterable[str]) -> list[int]:
    """Return the ranks by score of an example's candidates, in the order found; those that are not come last, by id."""
    by_id = dict(zip(example.candidates, ranks(example.scores), strict=True))
    first = [id for id in found if id in by_id]
    return [by_id[id] for id in (*first, *sorted(by_id.keys() - set(first)))]
