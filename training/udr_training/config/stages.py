"""The stages of a run, numbered, as a command announces them."""

from dataclasses import dataclass

from udr_training.config.run import RunConfig
from udr_training.config.scores import ScoringConfig


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of a run: some in each iteration, then others that the command adds.

    Attributes:
        config: the run's.
        later: the command's stages after the run.
    """

    config: ScoringConfig
    later: tuple[str, ...] = ()

    def title(self, stage: str, iteration: int = 0) -> str:
        """Return a stage's title, such as ``stage 2 of 4: feedback``, with its iteration if there are several.

        ``iteration`` counts from 0, the title from 1.
        """
        iterations = self.config.train.iterations if isinstance(self.config, RunConfig) else 1
        places = [(each, number) for number in range(iterations) for each in self._of(number)]
        if stage in self.later:
            place, which = len(places) + self.later.index(stage), ""
        else:
            place = places.index((stage, iteration))
            which = f", iteration {iteration + 1} of {iterations}" if iterations > 1 else ""
        return f"stage {place + 1} of {len(places) + len(self.later)}: {stage}{which}"

    def _of(self, iteration: int) -> tuple[str, ...]:
        """Return the stages of an iteration."""
        if not isinstance(self.config, RunConfig):
            return ("candidates", "feedback")
        train = self.config.train
        # A reward model serves the last training only.
        by_reward = ("reward", "extrapolation") if iteration == train.iterations - 1 else ()
        extrapolation = {"off": (), "labels": ("extrapolation",), "reward": by_reward}[train.extrapolate]
        return ("candidates", "feedback", *extrapolation, "training")
