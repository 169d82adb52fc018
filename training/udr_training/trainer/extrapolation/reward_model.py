"""The reward model: a cross-encoder that reads a query with its gold answer and a candidate; see ``RewardConfig``."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from sentence_transformers import CrossEncoder
from torch import nn

from udr.data import Pool, formatting
from udr.errors import ModelError, reason
from udr.models import TextWindow, hub
from udr_training.candidates import Candidates, RankedExample
from udr_training.config import RunConfig

_LOG = logging.getLogger(__name__)

# Queries whose pairs are scored together, so that pairs of similar length share a batch.
_BLOCK = 64


class RewardModel:
    """A cross-encoder of pairs.

    Args:
        model: the cross-encoder, with one output.
        window: its window, by which pairs that it cuts are counted; None counts none.
        score_temperature: τ of the loss that it was or will be trained with.
        dtype: of computation.
    """

    def __init__(self, model: CrossEncoder, window: TextWindow | None, score_temperature: float, dtype: str) -> None:
        self.model, self._window, self._dtype = model, window, dtype
        self._score_temperature = score_temperature

    @classmethod
    def load(cls, config: RunConfig, saved: Path | None = None) -> "RewardModel":
        """Load a trained reward model, or else the one to train: a transformer with a new output.

        Raises:
            ModelError: there is no such model, or it is not a transformer.
        """
        name = str(saved or config.reward.model or config.train.model)
        path = hub.locate(name)
        # Sentence-Transformers warns that it turns an encoder into a cross-encoder, which is intended.
        logging.getLogger("sentence_transformers.base.model").setLevel(logging.ERROR)
        try:
            model = CrossEncoder(str(path), num_labels=1, local_files_only=True, activation_fn=nn.Identity())
            limit = 2 * config.train.max_tokens
            model.max_seq_length = min(limit or model.max_seq_length, model.max_seq_length or limit)
        except Exception as error:
            # Whatever a folder holds, Transformers and Sentence-Transformers have many errors for it.
            problem = f"cannot become a reward model: {reason(error)}; name a transformer with reward.model"
            raise ModelError(f"model {name!r} {problem}") from error
        window = TextWindow.of(model.max_seq_length, path)
        return cls(model, window, config.train.score_temperature, config.train.dtype)

    def scores(self, pool: Pool, candidates: Candidates) -> dict[str, dict[str, float]]:
        """Return the score of each candidate by query.

        They have the scale of the language model's, apart from a constant for each query, which no loss depends on.
        """
        rows = {row.id: row for row in pool.rows}
        task, result, ids = pool.task, dict[str, dict[str, float]](), list(candidates)
        solved = {row.id: formatting.solved_text(task, row) for row in pool.rows}
        for first in range(0, len(ids), _BLOCK):
            pairs = [(query, id) for query in ids[first : first + _BLOCK] for id in candidates[query]]
            texts = [(formatting.encoder_demonstration(task, rows[query]), solved[id]) for query, id in pairs]
            with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self._dtype == "bfloat16"):
                outputs = self.model.predict(texts, show_progress_bar=False, convert_to_tensor=True)
            for (query, id), output in zip(pairs, outputs.float().tolist(), strict=True):
                result.setdefault(query, {})[id] = output * self._score_temperature
        return result

    def expected(self, pool: Pool, examples: Sequence[RankedExample]) -> list[list[float]]:
        """Return the score of each example's candidates, in their order."""
        scores = self.scores(pool, {example.query_id: example.candidates for example in examples})
        return [[scores[example.query_id][id] for id in example.candidates] for example in examples]

    def warn_of_long(self, pool: Pool, examples: Iterable[RankedExample]) -> None:
        """Warn of pairs that are longer than the window."""
        if self._window is None:
            return
        task = pool.task
        ids = [row.id for row in pool.rows]
        queries = self._window.lengths([formatting.encoder_demonstration(task, row) for row in pool.rows])
        others = self._window.lengths([formatting.solved_text(task, row) for row in pool.rows])
        query, other = dict(zip(ids, queries, strict=True)), dict(zip(ids, others, strict=True))
        lengths = [query[example.query_id] + other[id] for example in examples for id in example.candidates]
        long = sum(length > self._window.tokens for length in lengths)
        if long:
            _LOG.warning(
                "task %s: %d of %d pairs are longer than the reward model's %d tokens, the longest %d; their ends are "
                "not read; raise train.max_tokens",
                *(task.name, long, len(lengths), self._window.tokens, max(lengths)),
            )
