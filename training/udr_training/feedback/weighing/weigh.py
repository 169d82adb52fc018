"""The weight of hybrid searches, by task: the best for rows that training has not learned from."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from udr.errors import ConfigError, UnknownTaskError
from udr.models import BASE_ENCODER, DEFAULT_ENCODER
from udr.retrieval import Retriever
from udr.store import IndexVersion, Partition, locked_current, open_version, read_weights, write_weights
from udr_training.feedback.weighing.candidates import learned, ndcg_values, watched
from udr_training.feedback.weighing.sets import SetQuestion
from udr_training.run_folder import RunFolder

_LOG = logging.getLogger(__name__)

WEIGHTS = tuple(round(0.1 * step, 1) for step in range(11))
"""The weights of the encoder's ranking that are tried by scores that are there."""

ASKED_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Those that the language model is asked about; each costs a prompt for every query."""

_EVEN, _FEWEST = 0.5, 5


@dataclass(frozen=True, slots=True)
class Weighed:
    """A task's weight, and what tells it.

    Attributes:
        task: its name.
        queries: how many queries tell it.
        weight: the chosen one.
        measure: ``ndcg``, NDCG@8 of the order of candidates; ``score``, of targets, as in the feedback; or the task's
            metric, of written answers, 0 to 1, BLEU of each on its own.
        values: the mean measure over the queries, by weight; higher is better.
    """

    task: str
    queries: int
    weight: float
    measure: str
    values: Mapping[float, float]

    def __str__(self) -> str:
        chosen = f"{self.measure.replace('ndcg', 'NDCG')} {self.values[self.weight]:.3f}"
        named = {"BM25": 0.0, "both alike": _EVEN, "the encoder": 1.0}
        others = ", ".join(f"{name} {self.values[weight]:.3f}" for name, weight in named.items())
        return f"{self.task}: weight {self.weight:g}, {chosen} over {self.queries} queries ({others})"


def best_weight(values: NDArray[np.float64], weights: Sequence[float]) -> float:
    """Return which of the weights to choose: the one nearest to even that is as good as the best.

    As good means that its mean lies within one standard error of the best one's, query by query (the rule of Breiman et
    al., 1984): a few queries do not move the weight by chance. Fewer than five do not at all, since their differences
    may happen to be equal. Ties go to BM25's side.

    Args:
        values: of each query with each weight, [queries, weights].
        weights: ascending.
    """
    best = int(values.mean(axis=0).argmax())
    behind = values[:, [best]] - values
    errors = behind.std(axis=0, ddof=1) / np.sqrt(len(values)) if len(values) >= _FEWEST else np.inf
    good = [weight for weight, is_good in zip(weights, behind.mean(axis=0) <= errors, strict=True) if is_good]
    return min(good, key=lambda weight: round(abs(weight - _EVEN), 6))


def weigh(
    run: Path, index: Path, question: SetQuestion | None = None, tasks: Sequence[str] | None = None
) -> list[Weighed]:
    """Set the weight of hybrid searches of an index's tasks by the scores of a run, and store it in the index.

    It is stored in the version that is current by then: a compaction, for one, may replace what was opened.

    Without a question, the queries are those that training held out, and the weights order their scored candidates; of
    a run that trained nothing, all. Tasks that the run lacks keep the weight that they have, and so do tasks with a
    label head: it ranks their searches, but has seen the labels of the queries, which are rows of the pool. If the
    index has another encoder than the run's or udr's own, which may have learned from the queries, a warning says so.

    Args:
        run: the run directory; that of the training, if the index has a trained encoder.
        index: the index directory.
        question: what to ask the run's language model instead.
        tasks: which to weigh; None is all that the run and the index share.

    Raises:
        ArtifactError: there is no run or no index, its tasks or language model have changed, a command runs in it
            for more than a minute, or another version that is not weighed has become current.
        MissingExtraError: a metric needs a package that is not installed.
        ConfigError: they share no task with scores and without a label head, or the index lacks BM25 or a scored row;
            and as ``SetQuestion.check``.
        UnknownTaskError: they do not share one of ``tasks``.
    """
    folder, version = RunFolder(run), open_version(index)
    if question is not None:
        question.check(folder)
    examples = watched(run)
    scored = [name for name, own in examples.items() if own]
    shared = [name for name in version.manifest.partitions if name in scored]
    if not shared:
        raise ConfigError(
            f"{run}: training held out no scored query of a task of {index}; it did of {', '.join(scored) or 'none'}"
        )
    if unknown := [name for name in tasks or () if name not in shared]:
        name, rest = unknown[0], ", ".join(shared)
        if name in examples and name in version.manifest.partitions:
            raise ConfigError(f"{run}: training held out no scored query of the task {name!r}; it did of {rest}")
        raise UnknownTaskError(f"no task {name!r} is in both {run} and {index}; they share {rest}")
    names = _weighable(version, index, [name for name in shared if tasks is None or name in tasks])
    encoder = version.manifest.encoder
    # Those that come with udr have learned from no user's queries.
    if encoder.name not in (BASE_ENCODER, DEFAULT_ENCODER) and encoder.fingerprint not in folder.encoders:
        _LOG.warning(
            "%s: nothing tells that its encoder, %r, has not learned from the queries of %s; if it was trained on "
            "these tasks, name the run that trained it, or the encoder counts too much",
            *(index, encoder.name, run),
        )
    with Retriever.of_version(version) as retriever:
        if question is None:
            values = {name: ndcg_values(retriever, name, examples[name], WEIGHTS) for name in names}
            results = [_weighed(name, own, WEIGHTS, "ndcg") for name, own in values.items()]
        else:
            taken = learned(folder, {name: examples[name] for name in names})
            values = question.values(folder, retriever, taken, ASKED_WEIGHTS)
            measures = {name: question.measure(retriever.tasks[name]) for name in values}
            results = [_weighed(name, own, ASKED_WEIGHTS, measures[name]) for name, own in values.items()]
    new = {result.task: result.weight for result in results}
    with locked_current(version, new, _ranked) as current:
        stored = read_weights(current.path, current.manifest)
        write_weights(current.path, current.manifest, {**stored, **new})
    return results


def _ranked(part: Partition) -> object:
    return bool(part.lexical), part.label_head is None


def _weighable(version: IndexVersion, index: Path, shared: Sequence[str]) -> list[str]:
    """Return the tasks without a label head; raise a ``ConfigError`` if there is none, or if one has no BM25."""
    parts = version.manifest.partitions
    names = [name for name in shared if parts[name].label_head is None]
    if headed := [name for name in shared if parts[name].label_head is not None]:
        what = f"{index}: label heads rank {', '.join(headed)}, and have seen the labels of the run's queries"
        if not names:
            raise ConfigError(f"{what}, so no weight can be told; build without: udr index build --no-label-head")
        _LOG.warning("%s; weights of these tasks stay as they are", what)
    if lacking := [name for name in names if not parts[name].lexical]:
        raise ConfigError(f"{index} has no BM25 for {', '.join(lacking)}; build it again: udr index build")
    return names


def _weighed(name: str, values: NDArray[np.float64], weights: Sequence[float], measure: str) -> Weighed:
    if len(values) < _FEWEST:
        message = "task %s: it takes %d queries to tell a weight, found %d; the encoder and BM25 count alike"
        _LOG.warning(message, name, _FEWEST, len(values))
    means = dict(zip(weights, values.mean(axis=0).tolist(), strict=True))
    return Weighed(name, len(values), best_weight(values, weights), measure, means)
