"""The values and gains of ``quality.py``, over groups of tasks and for each task, with intervals.

Intervals are 95 %. Those of one seed are as in ``udr evaluate``. Those of several are of a bootstrap over test rows and
seeds, paired: both sides have the same rows and the same seeds in each resample. Seeds are drawn by their values on all
rows, since rows that they answer differently count among the rows already. A plain bootstrap of n seeds has (n - 1) / n
of the variance of their mean; here the rest is added. Three seeds are few, so their part of the interval is an
approximation; ``quality.py`` says in what seeds differ.

Gains of an arm are counted from

- ``untrained``: the best untrained retriever without a head;
- ``untrained or head``: the best untrained one, with a head or without;
- BM25, and each untrained retriever with heads: of the encoder that trainings start from, it is the honest baseline;
- ``udr``: the arm of that name, on the same feedback.

The best one is that of the column: by its mean over tasks with labels, its mean over all tasks, or its value on the
task.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from answers import shown

from udr_training.evaluation import Estimate, draws, mean

Values = Mapping[str, Estimate]
"""Values by task."""

Side = Sequence[Values]
"""The values of each seed; of what is not trained, those of one."""


def over_rows(estimate: Estimate, task: str) -> Estimate:
    """Return a task's value with its values on resamples of the test rows, the same ones for all arms."""
    if estimate.rows is None:
        return estimate
    means = [estimate.rows[drawn].mean() for drawn in draws(task, len(estimate.rows), 0)]
    return replace(estimate, samples=np.array(means))


def over_tasks(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean over tasks, whose resamples are independent."""
    value = float(np.mean([estimate.value for estimate in estimates]))
    return Estimate.of_samples(value, np.array([estimate.samples for estimate in estimates]).mean(axis=0))


def over_seeds(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean over seeds; each resample also draws as many of the seeds, with replacement.

    With n seeds, what the mean of the drawn values deviates from that of all is scaled by sqrt(n / (n - 1)).
    """
    values, samples = (np.array([getattr(each, name) for each in estimates]) for name in ("value", "samples"))
    # The same draws for all arms with as many seeds, so that their differences are paired.
    drawn = np.random.default_rng(0).integers(len(values), size=(samples.shape[1], len(values)))
    scale = np.sqrt(len(values) / max(1, len(values) - 1))
    deviations = values[drawn].mean(axis=1) - values.mean()
    return Estimate.of_samples(float(values.mean()), samples.mean(axis=0) + scale * deviations)


def mean_over(side: Side, tasks: Sequence[str], seeds: int) -> Estimate:
    """Return the mean over tasks and the first seeds; what is not trained is the same with each seed."""
    each = [[values[task] for task in tasks] for values in (list(side) * seeds)[:seeds]]
    return mean(each[0]) if seeds == 1 else over_seeds([over_tasks(estimates) for estimates in each])


@dataclass(frozen=True)
class References:
    """What gains are counted from.

    Attributes:
        plain: the untrained retrievers without a head, by name.
        headed: those with heads.
        trained: the arm ``udr``.
    """

    plain: Mapping[str, Side]
    headed: Mapping[str, Side]
    trained: Side

    def best(self, tasks: Sequence[str], *, heads: bool = False) -> str:
        """Return the name of the untrained retriever with the best mean over tasks."""
        sides = {**self.plain, **(self.headed if heads else {})}
        return max(sides, key=lambda name: mean_over(sides[name], tasks, 1).value)

    def gains(self, side: Side, groups: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]]:
        """Return the gains of an arm, with intervals, by what they are over and group of tasks."""
        gains: dict[str, dict[str, str]] = {}
        for group, tasks in groups.items():
            own = mean_over(side, tasks, len(side))
            for name, other in self._over(side, tasks).items():
                gains.setdefault(name, {})[group] = shown(own - mean_over(other, tasks, len(side)))
        return gains

    def _over(self, side: Side, tasks: Sequence[str]) -> dict[str, Side]:
        sides = {**self.plain, **self.headed}
        best = {"untrained": sides[self.best(tasks)], "untrained or head": sides[self.best(tasks, heads=True)]}
        named = {name: own for name, own in sides.items() if name == "bm25" or name in self.headed}
        return best | named | ({} if side is self.trained else {"udr": self.trained})
