"""Pairs of a query and a candidate, and the training tasks that they are taken from."""

import hashlib
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from udr.data import Pool, Task, TaskFolder, formatting, sample
from udr.errors import ConfigError
from udr.types import Row
from udr_training.answering import READING, ends_of
from udr_training.candidates import AskedQuery, CandidatePool, Candidates, Neighbours, distinct, propose
from udr_training.config import ANSWERED, ScoringConfig
from udr_training.feedback.packing import Prompt
from udr_training.feedback.prompts import LMTokenizer, PromptRenderer, PromptText
from udr_training.feedback.store import PairKey

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pair:
    """A training query and a candidate demonstration of the same task.

    Attributes:
        task: the task, which formats them.
        query: the query.
        demonstration: the demonstration to score.
        context: demonstrations shown before it, the same for all candidates of a query.
        basis: a hash of what the score of a server's answers depends on beside the prompt; see ``candidate_pairs``.
        ends: what ends an answer; see ``ends_of``.
    """

    task: Task
    query: Row
    demonstration: Row
    context: tuple[Row, ...] = ()
    basis: str = ""
    ends: str = "\n"

    def text(self, renderer: PromptRenderer | None = None) -> PromptText:
        """Return the texts that the language model reads; a shared renderer renders no row of a task twice."""
        shown = (*self.context, self.demonstration)
        text = (renderer or PromptRenderer()).render(self.task, self.query, shown)
        return replace(text, basis=self.basis) if self.basis else text


def pair_keys(pairs: Sequence[Pair]) -> list[PairKey]:
    """Return the keys of the scores of pairs of one task."""
    renderer = PromptRenderer()
    return [pair.text(renderer).key for pair in pairs]


def pair_prompt(lm: LMTokenizer, pair: Pair) -> Prompt:
    """Return the prompt of a pair; pairs with the same context share its tokens."""
    return pair.text().tokenize(lm, num_common=len(pair.context))


def candidate_pairs(
    candidate_pool: CandidatePool, queries: Sequence[Row], candidates: Candidates, context: int, kind: str
) -> list[Pair]:
    """Return the pairs of queries and their candidates.

    Args:
        candidate_pool: the pool.
        queries: in the pool or not.
        candidates: of each query.
        context: how many other demonstrations are shown before a candidate.
        kind: of feedback. Scores of a server's answers depend on how these are read; those of kinds ``metric`` and
            ``rank`` also on what is right, and of the latter on all candidates of a query, which are only compared
            with one another.
    """
    task, rows = candidate_pool.pool.task, {row.id: row for row in candidate_pool.pool.rows}
    contexts, ends = [candidate_pool.context(query, context) for query in queries], ends_of(candidate_pool.pool)
    return [
        Pair(task, query, rows[id], shown, basis, ends)
        for query, shown in zip(queries, contexts, strict=True)
        for basis in [basis_of(task, query, [rows[id] for id in candidates[query.id]], kind, ends)]
        for id in candidates[query.id]
    ]


def basis_of(task: Task, query: Row, candidates: Sequence[Row], kind: str, ends: str = "") -> str:
    """Return the basis of the pairs of a query; empty for likelihoods, which depend on the prompt alone."""
    if kind not in ANSWERED:
        return ""
    # ``chat-logprobs`` keeps the share of each option, whichever is right.
    right = [] if kind == "chat-logprobs" else [query.target, *query.references]
    # In any order.
    listed = sorted(formatting.demonstration_text(task, row) for row in candidates) if kind == "rank" else []
    # Where answers are read up to an end, the pool tells which, and it may change.
    read = [ends] if kind == "metric" else []
    return hashlib.sha256(json.dumps([READING, right, listed, *read]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class TrainingTask:
    """A task's pool and training queries.

    Attributes:
        candidate_pool: the pool, which excludes a query and its copies.
        queries: rows of the pool, or those of ``asked``.
        config: how candidates are proposed and shown.
        asked: queries of real traffic by id, with the scores of what was shown for them; empty with other feedback.
    """

    candidate_pool: CandidatePool
    queries: tuple[Row, ...]
    config: ScoringConfig
    asked: Mapping[str, AskedQuery] = field(default_factory=dict)

    @staticmethod
    def sample(
        folder: TaskFolder, config: ScoringConfig, min_candidates: int = 1, asked: Sequence[AskedQuery] = ()
    ) -> "TrainingTask":
        """Sample a task's pool and queries: those of ``asked`` if there are any, else rows of the pool; no copies.

        Raises:
            ConfigError: the pool has fewer than ``min_candidates`` rows, or the context's, for some query; or it has
                none of those that were shown.
        """
        pool = folder.pool(config.candidates.pool or None, config.seed)
        candidate_pool, context = CandidatePool(pool, config.seed, config.candidates.shared), config.feedback.context
        if candidate_pool.fewest < max(min_candidates, context):
            raise ConfigError(
                f"the pool of task {folder.task.name!r} has {len(pool)} rows, {candidate_pool.fewest} without a query "
                f"and its copies; a step needs {min_candidates} candidates per query, and the language model a context "
                f"of {context}; add rows, leave the task out by --tasks, or ask for fewer by --set train.list_length=2 "
                "and --context 0"
            )
        known = _known(candidate_pool, asked)
        rows = [item.query for item in known.values()] if asked else pool.rows
        queries = distinct(pool.task, sample(rows, None, config.seed))
        return TrainingTask(candidate_pool, tuple(islice(queries, config.candidates.queries or None)), config, known)

    @property
    def pool(self) -> Pool:
        """The demonstrations."""
        return self.candidate_pool.pool

    @property
    def num_later(self) -> int:
        """How many new queries a later iteration asks, for no more pairs than old queries with new candidates have."""
        config = self.config.candidates
        num_new = config.num_candidates - config.num_random
        return max(1, len(self.queries) * num_new // config.num_candidates)

    def unasked(self, asked: Collection[str], count: int | None = None) -> tuple[Row, ...]:
        """Return ``count`` rows that can be new queries, or all of them, sampled by seed.

        Args:
            asked: ids of rows that were queries, of which, as of one another, the new ones are no copies.
            count: None for all.
        """
        rows = sample(self.pool.rows, None, self.config.seed)
        return tuple(islice(distinct(self.pool.task, rows, self._rows(asked)), count))

    def num_unasked(self, asked: Collection[str]) -> int:
        """Return how many rows can be new queries; see ``unasked``."""
        # Their order does not matter, so no pool is hashed and sorted to count them.
        return sum(1 for _ in distinct(self.pool.task, self.pool.rows, self._rows(asked)))

    def _rows(self, ids: Collection[str]) -> list[Row]:
        return [row for row in self.pool.rows if row.id in ids]

    def propose(
        self, neighbours: Neighbours, queries: Sequence[Row] | None = None, count: int | None = None
    ) -> Candidates:
        """Return candidates for every query, or for other rows: their neighbours, and a random share."""
        config, rows = self.config.candidates, self.queries if queries is None else queries
        proposed = propose(self.candidate_pool, rows, neighbours, count or config.num_candidates, config.random_share)
        if not self.asked:
            return proposed
        # Beside what was shown, since a query has often been asked once, and all that it was shown has one score.
        return {query: tuple(dict.fromkeys((*self.asked[query].scores, *ids))) for query, ids in proposed.items()}

    def told(self, candidates: Candidates) -> dict[tuple[str, str], float]:
        """Return the scores of candidates, by the ids of query and demonstration, that ``asked`` tells."""
        return {(query, id): self.asked[query].score(id) for query, ids in candidates.items() for id in ids}

    def pairs(self, candidates: Candidates) -> list[Pair]:
        """Return the pairs to score."""
        rows = {row.id: row for row in self.pool.rows}
        queries = [rows[query] for query in candidates]
        feedback = self.config.feedback
        return candidate_pairs(self.candidate_pool, queries, candidates, feedback.context, feedback.kind)


def _known(candidate_pool: CandidatePool, asked: Sequence[AskedQuery]) -> dict[str, AskedQuery]:
    """Return queries by id with the scores of what can be shown for them; those without any are left out."""
    name, taken = candidate_pool.pool.task.name, {row.id for row in candidate_pool.pool.rows}
    known = {}
    for item in asked:
        if item.query.id in taken:
            raise ConfigError(f"a query and a row of the pool of task {name!r} have the id {item.query.id!r}")
        if shown := candidate_pool.showable(item.query, item.scores):
            known[item.query.id] = replace(item, scores={id: item.scores[id] for id in shown})
    if asked and not known:
        raise ConfigError(f"the pool of task {name!r} has no demonstration that its {len(asked)} queries were shown")
    return known


def warn_of_copies(task: TrainingTask) -> None:
    """Warn if a task has fewer queries than were asked for, because its other rows are copies of them."""
    rows = len(task.asked or task.pool)
    wanted = min(task.config.candidates.queries or rows, rows)
    if missing := wanted - len(task.queries):
        _LOG.warning(
            "task %s: %d queries in place of %d (%s fewer); all others are copies of these",
            *(task.pool.task.name, len(task.queries), wanted, f"{missing / wanted:.1%}"),
        )


def warn_of_lost(name: str, asked: Sequence[AskedQuery], known: Mapping[str, AskedQuery]) -> None:
    """Warn if some scores of queries are not among those that can be used."""
    scores, kept = (sum(len(item.scores) for item in items) for items in (asked, known.values()))
    if kept < scores:
        _LOG.warning(
            "task %s: %d of %d scores are of no row of the pool, or of a copy of the query, which leaves %d of %d "
            "queries; candidates.pool = 0 takes all rows",
            *(name, scores - kept, scores, len(known), len(asked)),
        )
