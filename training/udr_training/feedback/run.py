"""The feedback of a run: the candidates of its iterations and their scores."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from udr.data import Collection, Pool, formatting
from udr.models import hub
from udr.types import Json
from udr_training.candidates import Neighbours, first_neighbours
from udr_training.config import ScoringConfig
from udr_training.feedback.lm import identify, load_lm
from udr_training.feedback.scoring import Progress, score_pairs
from udr_training.feedback.store import FeedbackStore
from udr_training.feedback.task import TrainingTask
from udr_training.run_folder import RunFolder

Report = Callable[[str, Progress], None]
"""Called with a task's name and the progress of its scoring."""

Scores = Mapping[tuple[str, str], float]
"""Scores by query id and demonstration id; higher is better."""


class FeedbackRun:
    """A run's candidates and their scores: all of ``udr feedback score``, and the first half of ``udr train``.

    Args:
        path: the run directory; created if missing.
        collection: the tasks.
        config: everything that the result depends on.
        feedback: the file of scores, which runs can share; None uses one in the run directory.
        report: called with the progress.
        fewest: the smallest number of candidates that a query needs.
        sources: hashes of the run's other inputs.

    Raises:
        ConfigError: the directory belongs to a run with another configuration, other data or other models; a pool is
            too small; or the device does not exist.
        ModelError: the language model cannot be found.
        FeedbackError: a remote language model returns no usable scores.
    """

    def __init__(
        self,
        path: Path,
        collection: Collection,
        config: ScoringConfig,
        *,
        feedback: Path | None = None,
        report: Report = lambda *_: None,
        fewest: int = 1,
        sources: Mapping[str, Json] | None = None,
    ) -> None:
        self.folder, self._config, self._report = RunFolder(path), config.feedback, report
        tasks = {name: TrainingTask.cut(task, config, fewest) for name, task in collection.tasks.items()}
        self._store = self.folder.scores(feedback)
        order = self.folder.claim(config, {**(sources or {}), **self._sources(tasks)}, self._places(collection))
        # Random draws depend on the order of the tasks: keep the original one.
        self.tasks = {name: tasks[name] for name in order or tasks}

    def _sources(self, tasks: Mapping[str, TrainingTask]) -> dict[str, Json]:
        lm = identify(self._config)
        return {
            "lm": lm.fingerprint,
            "lm_dtype": lm.dtype,
            "lm_wording": formatting.LM_WORDING,
            "pools": {name: task.digest for name, task in tasks.items()},
        }

    def _places(self, collection: Collection) -> dict[str, Path]:
        """Return the paths that the scores depend on."""
        lm = {"lm": Path(self._config.lm).expanduser()} if hub.is_local(self._config.lm) else {}
        return {"tasks": collection.root, "feedback": self._store, **lm}

    def finish(self) -> dict[str, Scores]:
        """Score all missing pairs, and return all scores by task."""
        self.propose(0, first_neighbours)
        return self.scores(0)

    def propose(self, number: int, neighbours: Callable[[Pool], Neighbours]) -> None:
        """Propose the candidates of an iteration, unless they exist.

        Args:
            number: the iteration.
            neighbours: returns a pool's search.
        """
        if not self.folder.is_proposed(number):
            with self.folder.timed(number, "candidates"):
                proposed = {name: task.propose(neighbours(task.pool)) for name, task in self.tasks.items()}
                self.folder.propose(number, proposed)

    def scores(self, number: int) -> dict[str, Scores]:
        """Return the scores of all candidates up to an iteration; missing ones are computed and stored."""
        with self.folder.timed(number, "feedback"):
            candidates = self.folder.candidates(number + 1)
            # Loaded each time, so that training has the memory for itself.
            lm = load_lm(self._config)
            with FeedbackStore(self._store, lm.fingerprint, lm.dtype, formatting.LM_WORDING) as opened:
                return {
                    name: score_pairs(lm, opened, task.pairs(candidates[name]), partial(self._report, name))
                    for name, task in self.tasks.items()
                }
