"""The whole of UDR in one resumable run: candidates, feedback, ranking, training; mine better candidates; again.

A run directory holds ``config.toml`` (resolved), ``manifest.json``, ``feedback.sqlite``, a folder for each
iteration, and ``model/``, the last iteration's encoder. A stage's result appears under its final name when it is
whole; a run that is started again takes what is there and goes on.
"""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from udr import models, text
from udr.demonstrations import pool_lines
from udr.encoder import SentenceEncoder
from udr.errors import ConfigError
from udr.files import canonical_json, whole_folder, write_atomically
from udr.pool import Collection, Pool, TaskFolder, sample
from udr.types import Json, Row
from udr_training.candidates import Candidates, Others, encoder_neighbours, first_neighbours, propose
from udr_training.config import RunConfig, from_toml, to_toml
from udr_training.feedback.causal_lm import CausalLM, check_device
from udr_training.feedback.pairs import Pair
from udr_training.feedback.scoring import FeedbackLM, Progress, score_pairs
from udr_training.feedback.store import FeedbackStore
from udr_training.ranking import RankedExample, rank_candidates
from udr_training.train import TaskExamples, train_encoder

_LOG = logging.getLogger(__name__)

Report = Callable[[str, Progress], None]


@dataclass(frozen=True, slots=True)
class TrainingTask:
    """A task's pool, and from it the queries to learn from.

    Attributes:
        others: the pool without a query and its copies.
        queries: members of the pool.
    """

    others: Others
    queries: tuple[Row, ...]

    @property
    def pool(self) -> Pool:
        """The demonstrations."""
        return self.others.pool

    @staticmethod
    def cut(folder: TaskFolder, config: RunConfig) -> "TrainingTask":
        """Draw a task's share of a run.

        Raises:
            ConfigError: the pool is too small.
        """
        pool = folder.pool(config.candidates.pool or None, config.seed)
        others = Others(pool, config.seed)
        length, context = config.train.list_length, config.feedback.context
        if others.fewest < max(length, context):
            raise ConfigError(
                f"the pool of task {folder.task.name!r} has {len(pool)} rows, {others.fewest} without a query and its "
                f"copies; a step sees {length} candidates of a query, and the language model a context of {context}"
            )
        return TrainingTask(others, tuple(sample(pool.rows, config.candidates.queries or None, config.seed)))


class Run:
    """A run directory and what it was asked for.

    Args:
        folder: the run directory; made when it does not exist.
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
        folder: Path,
        collection: Collection,
        config: RunConfig,
        *,
        feedback: Path | None = None,
        report: Report = lambda *_: None,
    ) -> None:
        self.folder, self.config, self._report = folder, config, report
        self._feedback = feedback or folder / "feedback.sqlite"
        self.tasks = {name: TrainingTask.cut(task, config) for name, task in collection.tasks.items()}
        # What is wrong is an error now, before the directory belongs to a run that asked for it.
        encoder = SentenceEncoder.load(config.train.model)
        self._sources: dict[str, Json] = {
            "encoder": encoder.fingerprint,
            "encoder_wording": text.ENCODER_WORDING,
            "lm": models.fingerprint(models.locate(config.feedback.lm)),
            "lm_wording": text.LM_WORDING,
            "pools": {name: _digest(task.pool) for name, task in self.tasks.items()},
        }
        check_device(config.feedback.device)
        self._claim()

    def _claim(self) -> None:
        """Make the directory this run's, or see that it is."""
        config, sources = self.folder / "config.toml", self.folder / "sources.json"
        if not config.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(sources, canonical_json(self._sources, indent=1))
            write_atomically(config, to_toml(self.config).encode())
        found = from_toml(config.read_text("utf-8"))
        if found != self.config:
            old, new = to_toml(found).splitlines(), to_toml(self.config).splitlines()
            changes = "; ".join(f"{a} here, {b} asked for" for a, b in zip(old, new, strict=True) if a != b)
            raise ConfigError(f"{self.folder} holds a run with another configuration ({changes}); give another --out")
        made_from = json.loads(sources.read_text("utf-8"))
        changed = [name for name in self._sources if made_from.get(name) != self._sources[name]]
        if changed:
            raise ConfigError(
                f"{self.folder} holds a run that was started from other {', '.join(changed)}; give another --out"
            )

    def finish(self) -> Path:
        """Do what is not yet done, and return the folder of the final model."""
        model: Path | None = None
        for iteration in range(self.config.train.iterations):
            model = self._iterate(iteration, model)
        final = self.folder / "model"
        if not final.exists() and model is not None:
            with whole_folder(final) as staging:
                shutil.copytree(model, staging, dirs_exist_ok=True)
        self._write_manifest()
        return final

    def _iterate(self, iteration: int, previous: Path | None) -> Path:
        folder = self.folder / f"iteration-{iteration}"
        model = folder / "model"
        if model.exists():
            _LOG.info("iteration %d: done before", iteration)
            return model
        folder.mkdir(exist_ok=True)
        with _timed(folder, "candidates"):
            self._propose(folder, previous)
        with _timed(folder, "feedback"):
            ranked = self._rank(iteration)
        with _timed(folder, "training"):
            seed = self.config.seed + iteration
            train_encoder(ranked, self.config.train, seed, model, folder / "checkpoints")
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return model

    def _propose(self, folder: Path, previous: Path | None) -> None:
        """Write the candidates of one iteration: BM25's in the first, the last encoder's in all others."""
        path = folder / "candidates.json"
        if path.exists():
            return
        encoder = SentenceEncoder.load(str(previous)) if previous is not None else None
        cut = self.config.candidates
        proposed: dict[str, Candidates] = {}
        for name, task in self.tasks.items():
            neighbours = first_neighbours(task.pool) if encoder is None else encoder_neighbours(task.pool, encoder)
            proposed[name] = propose(task.others, task.queries, neighbours, cut.num_candidates, cut.random_share)
        write_atomically(path, json.dumps(proposed).encode())

    def _rank(self, iteration: int) -> dict[str, TaskExamples]:
        """Score the candidates of all iterations up to this one, and rank them; stored scores are reused."""
        union: dict[str, dict[str, dict[str, None]]] = {name: {} for name in self.tasks}
        for number in range(iteration + 1):
            proposed = json.loads((self.folder / f"iteration-{number}" / "candidates.json").read_text("utf-8"))
            for name, candidates in proposed.items():
                for query, ids in candidates.items():
                    union[name].setdefault(query, {}).update(dict.fromkeys(ids))
        wanted = self.config.feedback
        # Loaded anew in each iteration: a training should have the memory to itself.
        lm = CausalLM.load(wanted.lm, wanted.device, wanted.dtype)
        with FeedbackStore(self._feedback, lm.fingerprint, lm.dtype, text.LM_WORDING) as store:
            return {
                name: TaskExamples(task.pool, self._rank_task(lm, store, task, union[name]))
                for name, task in self.tasks.items()
            }

    def _rank_task(
        self, lm: FeedbackLM, store: FeedbackStore, task: TrainingTask, candidates: Mapping[str, Mapping[str, None]]
    ) -> tuple[RankedExample, ...]:
        rows = {row.id: row for row in task.pool.rows}
        name = task.pool.task.name
        size = self.config.feedback.context
        pairs = [
            Pair(task.pool.task, rows[query], rows[id], context)
            for query, ids in candidates.items()
            for context in [task.others.context(rows[query], size)]
            for id in ids
        ]
        scores = score_pairs(lm, store, pairs, lambda progress: self._report(name, progress))
        return tuple(rank_candidates(query, {id: scores[query, id] for id in ids}) for query, ids in candidates.items())

    def _write_manifest(self) -> None:
        """Write what the run was made of and how long its stages took; its existence says the run is whole."""
        timings = [_seconds(self.folder / f"iteration-{number}") for number in range(self.config.train.iterations)]
        manifest: dict[str, Json] = {
            "format": 1,
            **self._sources,
            "model_fingerprint": models.fingerprint(self.folder / "model"),
            "queries": {name: len(task.queries) for name, task in self.tasks.items()},
            "pool": {name: len(task.pool) for name, task in self.tasks.items()},
            "seconds": list(timings),
        }
        write_atomically(self.folder / "manifest.json", canonical_json(manifest, indent=2))


def _digest(pool: Pool) -> str:
    """Return a hash of all that a pool holds."""
    digest = hashlib.sha256()
    for line in pool_lines(pool):
        digest.update(line)
    return digest.hexdigest()[:16]


@contextmanager
def _timed(folder: Path, stage: str) -> Iterator[None]:
    """Add the seconds that the body takes to the stage's, also when it is interrupted by an error."""
    started = time.monotonic()
    _LOG.info("%s: %s", folder.name, stage)
    try:
        yield
    finally:
        seconds = _seconds(folder)
        seconds[stage] = round(seconds.get(stage, 0.0) + time.monotonic() - started, 1)
        write_atomically(folder / "seconds.json", json.dumps(seconds).encode())
        _LOG.info("%s: %s took %.1f s", folder.name, stage, seconds[stage])


def _seconds(folder: Path) -> dict[str, float]:
    path = folder / "seconds.json"
    return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}
