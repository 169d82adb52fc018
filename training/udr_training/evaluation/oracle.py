"""The oracle: for each test row, the candidates that the language model itself finds best.

It reads the row's gold target, so it is no retriever: it says how much a perfect choice among its candidates would
gain.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from udr import text
from udr.pool import Pool
from udr.types import Json, Row
from udr_training.candidates import Others, first_neighbours, propose
from udr_training.evaluation.config import EvaluationConfig
from udr_training.evaluation.names import ORACLE
from udr_training.feedback.pairs import candidate_pairs
from udr_training.feedback.scoring import FeedbackLM, Progress, score_pairs
from udr_training.feedback.store import FeedbackStore
from udr_training.ranking import rank_candidates

_RANDOM_SHARE = 0.5
"""Of its candidates, as in training: where all are alike, none can be better than the others."""

# SQLite's own name for a database that is kept nowhere.
_NOWHERE = Path(":memory:")


class Oracle:
    """Shows the candidates with the highest scores, by the feedback that training learns from.

    Args:
        lm: scores them; the language model that answers.
        config: how many candidates, and what stands before them.
        scores: where their scores are kept; None keeps them nowhere.
        progress: told about the scoring, by task.
    """

    name = ORACLE

    def __init__(
        self,
        lm: FeedbackLM,
        config: EvaluationConfig,
        scores: Path | None = None,
        progress: Callable[[str, Progress], None] = lambda *_: None,
    ) -> None:
        self._lm, self._config, self._scores, self._progress = lm, config, scores or _NOWHERE, progress

    @property
    def identity(self) -> dict[str, Json]:
        """What its choice depends on, beside the task, the language model and the seed."""
        config = self._config
        return {
            "candidates": config.oracle_candidates,
            "random_share": _RANDOM_SHARE,
            "context": config.oracle_context,
        }

    def demonstrations(self, pool: Pool, queries: Sequence[Row], count: int) -> list[list[Row]]:
        """Return at most ``count`` demonstrations for each query, best first, ties by id."""
        others = Others(pool, self._config.seed)
        neighbours = first_neighbours(pool)
        candidates = propose(others, queries, neighbours, self._config.oracle_candidates, _RANDOM_SHARE)
        rows = {row.id: row for row in pool.rows}
        pairs = candidate_pairs(others, queries, candidates, self._config.oracle_context)
        lm = self._lm
        with FeedbackStore(self._scores, lm.fingerprint, lm.dtype, text.LM_WORDING) as store:
            scores = score_pairs(
                lm, store, pairs, lambda progress: self._progress(f"{pool.task.name}, {ORACLE}", progress)
            )
        ranked = [
            rank_candidates(query.id, {id: scores[query.id, id] for id in candidates[query.id]}) for query in queries
        ]
        return [[rows[id] for id in best_first.candidates[:count]] for best_first in ranked]
