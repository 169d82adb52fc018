"""The feedback of a run: the candidates of its iterations, scored, or read where they were scored before."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from udr import models, text
from udr.pool import Collection
from udr.types import Json
from udr_training.candidates import first_neighbours
from udr_training.config import FeedbackConfig, ScoringConfig
from udr_training.feedback.lm import identify, load_lm
from udr_training.feedback.scoring import Progress, score_pairs
from udr_training.feedback.store import FeedbackStore
from udr_training.run_folder import RunFolder
from udr_training.training_task import TrainingTask

Report = Callable[[str, Progress], None]
"""Told a task's name and how far its scoring is."""

Scores = Mapping[tuple[str, str], float]
"""By query id and demonstration id; higher is better."""


class FeedbackRun:
    """Scores the training queries' first candidates and keeps the scores: ``udr feedback score``.

    Args:
        path: the run directory; made when it does not exist.
        collection: the tasks.
        config: everything that the scores depend on.
        feedback: where scores are kept; None keeps them in the run directory. Runs may share a file.
        report: told about the progress.

    Raises:
        ConfigError: the directory belongs to another run, a pool is too small, or there is no such device.
        ModelError: the language model's name leads nowhere.
        FeedbackError: a remote language model gives no usable numbers.
    """

    def __init__(
        self,
        path: Path,
        collection: Collection,
        config: ScoringConfig,
        *,
        feedback: Path | None = None,
        report: Report = lambda *_: None,
    ) -> None:
        self.folder, self.config, self._report = RunFolder(path), config, report
        self.tasks = {name: TrainingTask.cut(task, config) for name, task in collection.tasks.items()}
        self._store = self.folder.scores(feedback)
        sources = feedback_sources(config.feedback, self.tasks)
        order = self.folder.claim(config, sources, feedback_places(config.feedback, collection, self._store))
        self.tasks = {name: self.tasks[name] for name in order or self.tasks}

    def finish(self) -> dict[str, Scores]:
        """Score what is not scored yet, and return all scores by task."""
        if not self.folder.is_proposed(0):
            with self.folder.timed(0, "candidates"):
                proposed = {name: task.propose(first_neighbours(task.pool)) for name, task in self.tasks.items()}
                self.folder.propose(0, proposed)
        with self.folder.timed(0, "feedback"):
            return scored(self.folder, self.tasks, self.config.feedback, self._store, self._report)


def feedback_sources(config: FeedbackConfig, tasks: Mapping[str, TrainingTask]) -> dict[str, Json]:
    """Return hashes of all that scores are made from: the language model, its wording, the pools."""
    lm = identify(config)
    return {
        "lm": lm.fingerprint,
        "lm_dtype": lm.dtype,
        "lm_wording": text.LM_WORDING,
        "pools": {name: task.digest for name, task in tasks.items()},
    }


def feedback_places(config: FeedbackConfig, collection: Collection, store: Path) -> dict[str, Path]:
    """Return where what the scores need lies on this machine."""
    lm = {"lm": Path(config.lm).expanduser()} if models.is_local(config.lm) else {}
    return {"tasks": collection.root, "feedback": store, **lm}


def scored(
    folder: RunFolder, tasks: Mapping[str, TrainingTask], config: FeedbackConfig, store: Path, report: Report
) -> dict[str, Scores]:
    """Return the scores of all candidates proposed so far, by task; what is missing is computed and stored."""
    candidates = folder.candidates()
    # Loaded anew each time: what follows the feedback should have the memory to itself.
    lm = load_lm(config)
    with FeedbackStore(store, lm.fingerprint, lm.dtype, text.LM_WORDING) as opened:
        return {
            name: score_pairs(lm, opened, task.pairs(candidates[name]), partial(report, name))
            for name, task in tasks.items()
        }
