"""A reward model, judged by task: is its order of held-out candidates better than the encoder's?"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from udr.data import Pool
from udr_training.candidates import Candidates, RankedExample, agreement, rank_candidates
from udr_training.config import RunConfig
from udr_training.trainer import TaskExamples, starting_model, validation_similarities
from udr_training.trainer.extrapolation.reward_model import RewardModel
from udr_training.trainer.extrapolation.score_model import ScoreModel

LEAST = 0.6
"""The least share of the order of held-out scores that a reward model must get right, where 0.5 is chance."""
LEAD = 0.05
"""By how much it must exceed the share of the encoder that is trained: a teacher has to know more than its student."""


def rewards(tasks: Mapping[str, TaskExamples], config: RunConfig, saved: Path, start: str) -> dict[str, ScoreModel]:
    """Return the tasks' models of scores by a trained reward model.

    Unlike with labels, all pairs of a query's candidates count that do not have equal scores, those of two candidates
    with the query's label included. So the least share is lower, and the task's own: 0.6, or 0.05 more than the encoder
    gets right before it is trained.

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
        found, least = None, LEAST
        if task.validation:
            found = agreement(task.validation, model.expected(task.pool, task.validation))
            own = agreement(task.validation, validation_similarities(encoder, task))
            least = LEAST if own is None else max(LEAST, own.share + LEAD)
        result[name] = ScoreModel("the reward model's scores", found, least, partial(_scored, model, task.pool))
    return result


def _scored(model: RewardModel, pool: Pool, candidates: Candidates) -> tuple[RankedExample, ...]:
    examples = tuple(rank_candidates(query, own) for query, own in model.scores(pool, candidates).items())
    model.warn_of_long(pool, examples)
    return examples
