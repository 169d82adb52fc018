"""A reward model, judged by task: is its order of held-out candidates better than the encoder's?"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from udr.data import Pool
from udr_training.candidates import Candidates, RankedExample, agreement, rank_candidates
from udr_training.config import RunConfig
from udr_training.trainer import TaskExamples, starting_model, validation_similarities
from udr_training.trainer.extrapolation.reward_model import RewardModel

LEAST = 0.6
"""The least share of the order of held-out scores that a reward model must get right, where 0.5 is chance."""
LEAD = 0.05
"""By how much it must exceed the share of the encoder that is trained: a teacher has to know more than its student."""


@dataclass(frozen=True, slots=True)
class TaskReward:
    """A task's scores by a reward model; see ``ScoreModel``.

    Unlike with labels, all pairs of a query's candidates count that do not have equal scores, those of two candidates
    with the query's label included. So the least share is lower, and the task's own: 0.6, or 0.05 more than the encoder
    gets right before it is trained.

    Attributes:
        model: the reward model.
        pool: the task's rows.
        agreement: the share of the order of held-out scores that the model gets right, 0 to 1.
        least: the least share at which it is used.
        source: as a message names it.
    """

    model: RewardModel
    pool: Pool
    agreement: float
    least: float
    source: str = "the reward model's scores"

    def scored(self, candidates: Candidates) -> tuple[RankedExample, ...]:
        """Return queries that were never scored, their candidates in the order of the model's scores."""
        scores = self.model.scores(self.pool, candidates)
        examples = tuple(rank_candidates(query, own) for query, own in scores.items())
        self.model.warn_of_long(self.pool, examples)
        return examples


def rewards(tasks: Mapping[str, TaskExamples], config: RunConfig, saved: Path, start: str) -> dict[str, TaskReward]:
    """Return the tasks' models of scores by a trained reward model.

    Args:
        tasks: by name; their validation queries judge the reward model, which is not used in tasks without any.
        config: the run's.
        saved: the folder of the reward model.
        start: the encoder that is trained.

    Raises:
        ModelError: one of the two models cannot be loaded.
    """
    model, encoder = RewardModel.load(config, saved), starting_model(config.train, start)
    result = {}
    for name, task in tasks.items():
        if not task.validation:
            result[name] = TaskReward(model, task.pool, 0.0, LEAST)
            continue
        own = agreement(task.validation, validation_similarities(encoder, task))
        share = agreement(task.validation, model.expected(task.pool, task.validation))
        result[name] = TaskReward(model, task.pool, share, max(LEAST, own + LEAD))
    return result
