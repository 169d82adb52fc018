"""A resumable UDR run: candidates, feedback, ranks, training; mine better candidates; repeat.

A run directory holds ``config.toml`` (resolved), ``manifest.json``, ``feedback.sqlite``, a folder per iteration, and
``model/``, the last iteration's encoder. A stage's result gets its final name when it is complete; a restarted run
resumes from the complete results.
"""

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path

from udr.data import Collection, Kind, Pool, formatting
from udr.files import canonical_json, locked, whole_folder, write_atomically
from udr.models import LongTexts, RunnerOptions, SentenceEncoder, TextWindow, hub, scattered
from udr.types import Json
from udr_training.answering import Budget
from udr_training.candidates import Neighbours, encoder_neighbours, later_counts, rank_all
from udr_training.config import RunConfig, Stages, processes_here
from udr_training.feedback import FeedbackRun, OnProgress, Progress
from udr_training.trainer import (
    TaskExamples,
    centred,
    check_optimizer,
    check_processes,
    split,
    starting_model,
    train_encoder,
    train_on,
    write_card,
)
from udr_training.trainer.extrapolation import REWARD, extend, label_agreement, label_model, rewards, train_reward

_LOG = logging.getLogger(__name__)

_SEEDS_APART = 1_000
"""More than a run has iterations, so that no two trainings of different ``train.seed`` have the same seed."""


class Run:
    """A run directory and its configuration.

    Args:
        path: the run directory; created if missing.
        collection: the tasks to train on.
        config: everything that the result depends on.
        feedback: the file of scores, which runs can share; None uses one in the run directory.
        on_progress: called with a task and the progress of its scoring, and with the progress of trainings.
        later: the command's stages after the run, which are counted in what is announced.
        budget: what a server's answers may cost.
        runner: where the language model scores, if it is not a server's.
        processes: how many share a training, see ``train_on``, and encode to mine candidates. They change the result by
            rounding and dropout alone, so a run can resume with another number.

    Raises:
        ConfigError: the directory belongs to a run with another configuration, other data or other models; a pool is
            too small; or the device does not exist.
        ModelError: the language model or the encoder cannot be found or loaded.
    """

    def __init__(
        self,
        path: Path,
        collection: Collection,
        config: RunConfig,
        *,
        feedback: Path | None = None,
        on_progress: OnProgress = lambda *_: None,
        later: tuple[str, ...] = (),
        budget: Budget = Budget(),  # noqa: B008
        runner: RunnerOptions = RunnerOptions(),  # noqa: B008
        processes: int = 1,
    ) -> None:
        # Validate everything before the directory is claimed.
        check_optimizer(config.train.optimizer)
        model = starting_model(config.train, config.train.model)
        self._feedback = FeedbackRun(
            path,
            collection,
            config,
            feedback=feedback,
            on_progress=on_progress,
            min_candidates=config.train.list_length,
            stages=Stages(config, later),
            budget=budget,
            runner=runner,
            sources={
                "encoder": hub.fingerprint(hub.locate(config.train.model)),
                "encoder_wording": formatting.ENCODER_WORDING,
                **({"reward": hub.fingerprint(hub.locate(config.reward.model))} if config.reward.model else {}),
            },
        )
        self.folder, self.tasks, self.config = self._feedback.folder, self._feedback.tasks, config
        check_processes(processes, config, {name: len(task.queries) for name, task in self.tasks.items()})
        self._processes, self._split = processes, RunnerOptions(workers=processes_here(processes))
        self._on_progress = on_progress
        self._collection = collection
        # Kept, since the next iteration may allocate its queries by them: the language model is not loaded twice.
        self._examples = lru_cache(maxsize=1)(self._scored)
        self._window = TextWindow.of(model.max_seq_length, hub.locate(config.train.model))

    def finish(self) -> Path:
        """Complete the run, and return the folder of the final model.

        Raises:
            ArtifactError: another process is working on the run.
            PartialError: some pairs failed on every worker that tried them; training needs all of them.
        """
        with locked(self.folder.path):
            return self._finish()

    def _finish(self) -> Path:
        kinds = {task.pool.task.kind for task in self.tasks.values()}
        if self.config.train.label_aware and Kind.CLASSIFICATION not in kinds:
            _LOG.warning("train.label_aware has no effect: no task has labels")
        for name, task in self.tasks.items():
            long = LongTexts(self._window)
            long.add([formatting.encoder_demonstration(task.pool.task, row) for row in task.pool.rows])
            if notice := long.notice():
                _LOG.warning("task %s: %s", name, notice)
        model = None
        for number in range(self.config.train.iterations):
            model = self._iterate(number, model)
        final = self.folder.path / "model"
        if not final.exists() and model is not None:
            with whole_folder(final) as staging:
                shutil.copytree(model, staging, dirs_exist_ok=True)
                write_card(staging, self._collection, self.config)
        self._write_manifest()
        return final

    def _iterate(self, number: int, previous: Path | None) -> Path:
        folder = self.folder.iteration(number)
        model = folder / "model"
        if model.exists():
            _LOG.info("iteration %d: already complete", number)
            # The process may have been killed before it deleted these.
            for left in ("checkpoints", "reward-checkpoints"):
                shutil.rmtree(folder / left, ignore_errors=True)
            return model
        asks_new = number > 0 and self.config.candidates.later != "same"
        with self._search(previous) as neighbours:
            self._feedback.propose(number, neighbours, (lambda: self._num_new(number)) if asks_new else None)
        train, examples = self.config.train, self._examples(number)
        start = str(previous) if previous is not None and train.warm_start else train.model
        with self._search(previous) as neighbours:
            examples = self._extended(number, examples, neighbours, start)
        if train.centre_scores:
            examples = {name: centred(task) for name, task in examples.items()}
        with self.folder.timed(number, "training"):
            self._train(train_encoder, examples, train, self._seed(number), start, folder)
        return model

    @contextmanager
    def _search(self, previous: Path | None) -> Iterator[Callable[[Pool], Neighbours]]:
        """Open what searches a pool: BM25 in the first iteration, the previous encoder in later ones."""
        if previous is None:
            yield self._feedback.first_neighbours
            return
        with ExitStack() as stack:

            @cache
            def encoder() -> SentenceEncoder:
                # Loaded lazily: a resumed run may have its candidates already.
                loaded = SentenceEncoder.load(str(previous))
                return stack.enter_context(scattered(loaded, self._split, loaded.model.device.type))

            yield lambda pool: encoder_neighbours(pool, encoder())

    def _train(self, train: Callable[..., None], *arguments: object, stage: str = "training") -> None:
        train_on(self._processes, train, *arguments, on_step=self._on_step(stage))

    def _on_step(self, stage: str) -> Callable[[int, int], None]:
        """Return what reports the progress of one training."""
        first: list[tuple[int, float]] = []

        def on_step(done: int, total: int) -> None:
            now = time.monotonic()
            # A resumed training starts after some steps.
            if not first:
                first.append((done, now))
            before, started = first[0]
            self._on_progress(stage, Progress(done, total, 0, now - started, "steps", before))

        return on_step

    def _scored(self, number: int) -> dict[str, TaskExamples]:
        """Return the scored examples up to an iteration."""
        scores, first = self._feedback.scores(number), self.folder.candidates(1)
        return {
            name: replace(
                split(task.pool, rank_all(scores[name]), self.config.train, len(first[name])),
                asked=tuple(item.query for item in task.asked.values()),
            )
            for name, task in self.tasks.items()
        }

    def _seed(self, number: int) -> int:
        """Return the seed of an iteration's trainings."""
        return self.config.seed + number + _SEEDS_APART * self.config.train.seed

    def _num_new(self, number: int) -> Mapping[str, int]:
        """Return how many new queries an iteration asks of each task."""
        asked = self.folder.candidates(number)
        available = {name: task.num_unasked(asked[name].keys()) for name, task in self.tasks.items()}
        wanted = {name: task.num_later for name, task in self.tasks.items()}
        kind, explained = self.config.candidates.later, dict[str, float | None]()
        if kind == "allocated":
            explained = {name: label_agreement(task) for name, task in self._examples(number - 1).items()}
        counts = later_counts(kind, wanted, available, explained)
        for name, share in explained.items():
            labels = self.tasks[name].pool.task.kind is Kind.CLASSIFICATION
            unknown = "nothing tells what its labels explain" if labels else "it has no labels"
            told = unknown if share is None else f"its labels explain {share:.1%} of the order of held-out scores"
            _LOG.info("task %s: %s; %d new queries", name, told, counts[name])
        if (missing := sum(wanted.values()) - sum(counts.values())) > 0:
            _LOG.warning(
                "iteration-%d: %d new queries fewer than planned; the pools have no more rows", number, missing
            )
        return counts

    def _extended(
        self,
        number: int,
        examples: dict[str, TaskExamples],
        neighbours: Callable[[Pool], Neighbours],
        start: str,
    ) -> dict[str, TaskExamples]:
        """Return the examples with the pools' other rows as queries, where a model of the scores holds."""
        train, folder = self.config.train, self.folder.iteration(number)
        # Earlier trainings only serve to mine candidates, for which a reward model would cost too much.
        last = number == train.iterations - 1
        if train.extrapolate == "off" or (train.extrapolate == "reward" and not last):
            return examples
        if train.extrapolate == "reward" and not (folder / REWARD).exists():
            with self.folder.timed(number, REWARD):
                self._train(train_reward, examples, self.config, self._seed(number), folder, stage="reward model")
        judged = cache(lambda: rewards(examples, self.config, folder / REWARD, start))

        def extended(name: str) -> TaskExamples:
            task, count = self.tasks[name], None if train.extrapolate == "labels" else self.config.reward.candidates
            return extend(
                folder / "extrapolated" / f"{name}.json",
                examples[name],
                lambda: label_model(examples[name]) if count is None else judged()[name],
                lambda rows: task.propose(neighbours(task.pool), rows, count),
                train,
            )

        with self.folder.timed(number, "extrapolation"):
            return {name: extended(name) for name in examples}

    def _write_manifest(self) -> None:
        # The manifest exists only if the run is complete.
        manifest: dict[str, Json] = {
            **self.folder.sources,
            "model_fingerprint": hub.fingerprint(self.folder.path / "model"),
            "queries": {name: len(own) for name, own in self.folder.candidates().items()},
            "pool": {name: len(task.pool) for name, task in self.tasks.items()},
            "seconds": [dict(self.folder.seconds(number)) for number in range(self.config.train.iterations)],
        }
        write_atomically(self.folder.path / "manifest.json", canonical_json(manifest, indent=2))
