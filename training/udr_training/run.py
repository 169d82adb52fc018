"""The whole of UDR in one resumable run: candidates, feedback, ranking, training; mine better candidates; again.

A run directory holds ``config.toml`` (resolved), ``manifest.json``, ``feedback.sqlite``, a folder for each
iteration, and ``model/``, the last iteration's encoder. A stage's result appears under its final name when it is
whole; a run that is started again takes what is there and goes on.
"""

import logging
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

from udr.data import Collection, Pool, formatting
from udr.files import canonical_json, whole_folder, write_atomically
from udr.models import SentenceEncoder, hub
from udr.types import Json
from udr_training.candidates import Neighbours, RankedExample, encoder_neighbours, first_neighbours, rank_candidates
from udr_training.config import RunConfig
from udr_training.feedback import FeedbackRun, Report, Scores
from udr_training.trainer import check_optimizer, split, starting_model, train_encoder

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
        # What is wrong is an error now, before the directory belongs to a run that asked for it.
        check_optimizer(config.train.optimizer)
        starting_model(config.train, config.train.model)
        encoder = hub.fingerprint(hub.locate(config.train.model))
        self._feedback = FeedbackRun(
            path,
            collection,
            config,
            feedback=feedback,
            report=report,
            fewest=config.train.list_length,
            sources={"encoder": encoder, "encoder_wording": formatting.ENCODER_WORDING},
        )
        self.folder, self.tasks, self.config = self._feedback.folder, self._feedback.tasks, config

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
            # A kill may have come between the model and this.
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            return model
        # BM25's candidates in the first iteration, the last encoder's in all others.
        neighbours = first_neighbours if previous is None else _nearest_by(previous)
        self._feedback.propose(number, neighbours)
        scores = self._feedback.scores(number)
        train = self.config.train
        examples = {name: split(task.pool, _ranked(scores[name]), train) for name, task in self.tasks.items()}
        start = str(previous) if previous is not None and train.warm_start else train.model
        with self.folder.timed(number, "training"):
            train_encoder(examples, train, self.config.seed + number, start, folder)
        return model

    def _write_manifest(self) -> None:
        """Write what the run was made of and how long its stages took; its existence says the run is whole."""
        timings: list[Json] = [dict(self.folder.seconds(number)) for number in range(self.config.train.iterations)]
        manifest: dict[str, Json] = {
            "format": 1,
            **self.folder.sources,
            "model_fingerprint": hub.fingerprint(self.folder.path / "model"),
            "queries": {name: len(task.queries) for name, task in self.tasks.items()},
            "pool": {name: len(task.pool) for name, task in self.tasks.items()},
            "seconds": timings,
        }
        write_atomically(self.folder.path / "manifest.json", canonical_json(manifest, indent=2))


def _nearest_by(model: Path) -> Callable[[Pool], Neighbours]:
    # Loaded when the first pool asks: a run that goes on has its candidates already.
    encoder = cache(lambda: SentenceEncoder.load(str(model)))
    return lambda pool: encoder_neighbours(pool, encoder())


def _ranked(scores: Scores) -> tuple[RankedExample, ...]:
    """Return each query's candidates in the order of their scores."""
    by_query: dict[str, dict[str, float]] = {}
    for (query, demonstration), score in scores.items():
        by_query.setdefault(query, {})[demonstration] = score
    return tuple(rank_candidates(query, own) for query, own in by_query.items())
