"""The oracle: the demonstrations that the answering language model scores highest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from udr.data import Pool, Task, formatting
from udr.types import Json, Row
from udr_training.candidates import CandidatePool, first_neighbours, propose, rank_candidates
from udr_training.evaluation.retrievers.compared import Shown
from udr_training.evaluation.retrievers.names import ORACLE
from udr_training.feedback import (
    FeedbackLM,
    FeedbackStore,
    OnProgress,
    PairScorer,
    ScatteredLM,
    candidate_pairs,
    score_pairs,
)

# As in training: random candidates can be better than similar ones.
_RANDOM_SHARE = 0.5

# SQLite's name for a database in memory.
_IN_MEMORY = Path(":memory:")


@dataclass(frozen=True)
class Oracle:
    """Shows the candidates with the highest scores, by the feedback that training uses.

    Attributes:
        load: returns the language model that scores a task's candidates; called only if a score is needed.
        candidates: how many candidates it scores for each query.
        context: how many demonstrations are shown before each of them.
        seed: of the candidates that are drawn, and of the context.
        scores: the file of scores; None keeps them in memory.
        progress: called with the progress of scoring, by task.
    """

    load: Callable[[Task], FeedbackLM | ScatteredLM | PairScorer]
    candidates: int
    context: int = 0
    seed: int = 0
    scores: Path | None = None
    progress: OnProgress = lambda *_: None
    name: ClassVar[str] = ORACLE
    trained: ClassVar[bool] = False
    fills: ClassVar[bool] = False

    @property
    def identity(self) -> dict[str, Json]:
        """What its demonstrations depend on, beside the task, the language model and the seed."""
        return {
            "candidates": self.candidates,
            "random_share": _RANDOM_SHARE,
            "context": self.context,
        }

    def check(self, pool: Pool, queries: Sequence[Row], count: int) -> None:
        """See ``ComparedRetriever``."""

    def demonstrations(self, pool: Pool, queries: Sequence[Row], *counts: int) -> list[Shown]:
        """See ``ComparedRetriever``; ties by id."""
        lm, candidate_pool = self.load(pool.task), CandidatePool(pool, self.seed)
        candidates = propose(candidate_pool, queries, first_neighbours(pool), self.candidates, _RANDOM_SHARE)
        pairs = candidate_pairs(candidate_pool, queries, candidates, self.context, lm.dtype)
        on_progress = partial(self.progress, f"{pool.task.name}, {ORACLE}")
        with FeedbackStore(self.scores or _IN_MEMORY, lm.fingerprint, lm.dtype, formatting.LM_WORDING) as store:
            scores = score_pairs(lm, store, pairs, on_progress)
            if isinstance(lm, ScatteredLM):
                lm.check()
        rows = {row.id: row for row in pool.rows}
        ranked = [
            rank_candidates(query.id, {id: scores[query.id, id] for id in candidates[query.id]}) for query in queries
        ]
        return [Shown([rows[id] for id in example.candidates[:count]]) for count in counts for example in ranked]
