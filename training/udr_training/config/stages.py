"""The stages of a run, numbered, as a command announces them."""

from dataclasses import dataclass

from udr_training.config.schema import RunConfig, ScoringConfig


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
        """Return a stage's title, such as ``stage 2 of 4: feedback``, with its iteration, from 0, if there are more."""
        train = self.config.train if isinstance(self.config, RunConfig) else None
        iterations = train.iterations if train is not None else 1
        extrapolation = ("extrapolation",) if train is not None and train.extrapolate else ()
        each = ("candidates", "feedback", *extrapolation, *(() if train is None else ("training",)))
        total = iterations * len(each) + len(self.later)
        if stage in self.later:
            return f"stage {iterations * len(each) + self.later.index(stage) + 1} of {total}: {stage}"
        number = iteration * len(each) + each.index(stage) + 1
        which = f", iteration {iteration + 1} of {iterations}" if iterations > 1 else ""
        return f"stage {number} of {total}: {stage}{which}"
