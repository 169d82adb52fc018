"""The whole of UDR in one resumable run: candidates, feedback, ranking, training; mine better candidates; again.

A run directory holds ``config.toml`` (resolved), ``manifest.json``, ``feedback.sqlite``, a folder for each
iteration, and ``model/``, the last iteration's encoder. A stage's result appears under its final name when it is
whole; a run that is started again takes what is there and goes on.
"""

import logging
import shutil
from pathlib import Path

from udr import models, text
from udr.encoder import SentenceEncoder
from udr.files import canonical_json, whole_folder, write_atomically
from udr.pool import Collection
from udr.types import Json
from udr_training.candidates import Candidates, encoder_neighbours, first_neighbours
from udr_training.config import RunConfig
from udr_training.feedback.run import Report, Scores, feedback_places, feedback_sources, scored
from udr_training.ranking import RankedExample, rank_candidates
from udr_training.run_folder import RunFolder
from udr_training.train import TaskExamples, train_encoder
from udr_training.training_task import TrainingTask

_LOG = logging.getLogger(__name__)


class Run:
    """A run directory and what it was asked for.

    Args:
        path: the run directory; made when it does not exist.
        collection: the tasks to train on.
        config: everything that the result depends on.
        feedback: where scores are kept; None keeps them in the run directory. Runs may share a file.
        report: told about the progress of the feedback, by task.

    Raises:
        ConfigError: the directory belongs to a run with another configuration, or that was started from other data
            or models; a pool is too small; or there is no such device.
        ModelError: the name of the language model leads nowhere, or the encoder's to none.
    """

    def __init__(
        self,
        path: Path,
        collection: Collection,
        config: RunConfig,
        *,
        feedback: Path | None = None,
        report: Report = lambda *_: None,
    ) -> None:
        self.folder, self.config, self._report = RunFolder(path), config, report
        self._feedback = self.folder.scores(feedback)
        length = config.train.list_length
        self.tasks = {name: TrainingTask.cut(task, config, length) for name, task in collection.tasks.items()}
        # What is wrong is an error now, before the directory belongs to a run that asked for it.
        encoder = SentenceEncoder.load(config.train.model)
        self._sources: dict[str, Json] = {
            "encoder": encoder.fingerprint,
            "encoder_wording": text.ENCODER_WORDING,
            **feedback_sources(config.feedback, self.tasks),
        }
        places = feedback_places(config.feedback, collection, self._feedback)
        order = self.folder.claim(config, self._sources, places)
        # What is drawn depends on the order of the tasks.
        self.tasks = {name: self.tasks[name] for name in order or self.tasks}

    def finish(self) -> Path:
        """Do what is not yet done, and return the folder of the final model."""
        model: Path | None = None
        for number in range(self.config.train.iterations):
            model = self._iterate(number, model)
        final = self.folder.path / "model"
        if not final.exists() and model is not None:
            with whole_folder(final) as staging:
                shutil.copytree(model, staging, dirs_exist_ok=True)
        self._write_manifest()
        return final

    def _iterate(self, number: int, previous: Path | None) -> Path:
        folder = self.folder.iteration(number)
        model = folder / "model"
        if model.exists():
            _LOG.info("iteration %d: done before", number)
            return model
        with self.folder.timed(number, "candidates"):
            if not self.folder.is_proposed(number):
                self.folder.propose(number, self._proposed(previous))
        with self.folder.timed(number, "feedback"):
            scores = scored(self.folder, self.tasks, self.config.feedback, self._feedback, self._report)
        with self.folder.timed(number, "training"):
            seed = self.config.seed + number
            examples = {name: TaskExamples(task.pool, _ranked(scores[name])) for name, task in self.tasks.items()}
            train_encoder(examples, self.config.train, seed, model, folder / "checkpoints")
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return model

    def _proposed(self, previous: Path | None) -> dict[str, Candidates]:
        """Return the candidates of one iteration: BM25's in the first, the last encoder's in all others."""
        if previous is None:
            return {name: task.propose(first_neighbours(task.pool)) for name, task in self.tasks.items()}
        encoder = SentenceEncoder.load(str(previous))
        return {name: task.propose(encoder_neighbours(task.pool, encoder)) for name, task in self.tasks.items()}

    def _write_manifest(self) -> None:
        """Write what the run was made of and how long its stages took; its existence says the run is whole."""
        timings: list[Json] = [dict(self.folder.seconds(number)) for number in range(self.config.train.iterations)]
        manifest: dict[str, Json] = {
            "format": 1,
            **self._sources,
            "model_fingerprint": models.fingerprint(self.folder.path / "model"),
            "queries": {name: len(task.queries) for name, task in self.tasks.items()},
            "pool": {name: len(task.pool) for name, task in self.tasks.items()},
            "seconds": timings,
        }
        write_atomically(self.folder.path / "manifest.json", canonical_json(manifest, indent=2))


def _ranked(scores: Scores) -> tuple[RankedExample, ...]:
    """Return each query's candidates in the order of their scores."""
    by_query: dict[str, dict[str, float]] = {}
    for (query, demonstration), score in scores.items():
        by_query.setdefault(query, {})[demonstration] = score
    return tuple(rank_candidates(query, own) for query, own in by_query.items())
