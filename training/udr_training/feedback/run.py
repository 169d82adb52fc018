"""The feedback of a run: its language model, the candidates of its iterations, and their scores."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from udr.data import Collection, Pool, formatting, pool_digest
from udr.errors import ConfigError
from udr.files import expanded, locked, sha256
from udr.models import RunnerOptions, hub
from udr.types import Json
from udr_training.answering import Budget, PaidAnswers, ServerLM, is_remote, read_settings
from udr_training.candidates import Neighbours, bm25_neighbours, first_neighbours, read_asked
from udr_training.config import FeedbackConfig, ScoringConfig, Stages
from udr_training.feedback.local import check_device, load_local, opened_lm
from udr_training.feedback.pairs import TrainingTask, warn_of_copies, warn_of_lost
from udr_training.feedback.remote import ChatLogprobs, MetricScorer, RankScorer, RemoteLM
from udr_training.feedback.scoring import FeedbackLM, PairScorer, Progress, ScatteredLM, score_pairs, stored_scores
from udr_training.feedback.store import FeedbackStore
from udr_training.run_folder import RunFolder

OnProgress = Callable[[str, Progress], None]
"""Called with a task's name and the progress of its scoring."""

Scores = Mapping[tuple[str, str], float]
"""Scores by query id and demonstration id; higher is better."""


def load_lm(
    config: FeedbackConfig,
    budget: Budget = Budget(),  # noqa: B008
    paid: PaidAnswers | None = None,
) -> FeedbackLM:
    """Load a language model, or connect to its server and check it; errors as ``CausalLM.load`` and ``RemoteLM``.

    Args:
        config: names the model.
        budget: what a server's answers may cost.
        paid: a server's answers so far; None keeps them in memory.

    Raises:
        ConfigError: the model answers, and does not score prompts.
    """
    if config.is_answered:
        raise ConfigError(
            f"this asks the language model about pairs that are not kept, but answers of feedback.kind {config.kind!r} "
            "may cost money; udr feedback score --max-requests N tries it on pairs that are kept"
        )
    if is_remote(config.lm):
        lm = RemoteLM.connect(config.lm, read_settings(config.lm_set), budget, paid)
        lm.check()
        return lm
    return load_local(config)


def load_scorer(config: FeedbackConfig, paid: PaidAnswers, budget: Budget) -> PairScorer:
    """Return the feedback by a server's answers; nothing is sent.

    Raises:
        ConfigError: a key cannot be used.
        ModelError: the tokenizer cannot be loaded.
    """
    lm = ServerLM(config.lm, read_settings(config.lm_set), budget, paid)
    if config.kind == "metric":
        return MetricScorer(lm, config.prompts, config.samples)
    if config.kind == "rank":
        return RankScorer(lm, config.prompts, config.listed, config.picked, config.shuffles)
    return ChatLogprobs(lm, config.prompts)


class FeedbackRun:
    """A run's candidates and their scores: all of ``udr feedback score``, and the first half of ``udr train``.

    Args:
        path: the run directory; created if missing.
        collection: the tasks.
        config: everything that the result depends on.
        feedback: the file of scores, which runs can share; None uses one in the run directory.
        on_progress: called after every pack.
        min_candidates: the smallest number of candidates that a query needs.
        sources: hashes of the run's other inputs.
        stages: those of the command; None if the run's own are all.
        budget: what a server's answers may cost.
        runner: where the language model runs, if it is not a server's.

    Raises:
        ConfigError: the directory belongs to a run with another configuration, other data or other models; a pool is
            too small; or the device does not exist.
        ModelError: the language model cannot be found.
        FeedbackError: a server that echoes prompts cannot be asked for its model.
    """

    def __init__(
        self,
        path: Path,
        collection: Collection,
        config: ScoringConfig,
        *,
        feedback: Path | None = None,
        on_progress: OnProgress = lambda *_: None,
        min_candidates: int = 1,
        sources: Mapping[str, Json] | None = None,
        stages: Stages | None = None,
        budget: Budget = Budget(),  # noqa: B008
        runner: RunnerOptions = RunnerOptions(),  # noqa: B008
    ) -> None:
        self._budget, self._runner = budget, runner
        self.folder = RunFolder(path, stages or Stages(config))
        self._config, self._on_progress = config.feedback, on_progress
        self._store = self.folder.scores(feedback)
        asked = read_asked(self._store, collection) if self._config.is_told else {}
        tasks = {
            name: TrainingTask.sample(task, config, min_candidates, asked.get(name, ()))
            for name, task in collection.tasks.items()
        }
        for name, own in asked.items():
            warn_of_lost(name, own, tasks[name].asked)
        for task in tasks.values():
            warn_of_copies(task)
        self._identity = self._identify()
        all_sources: dict[str, Json] = {
            **(sources or {}),
            **self._identity,
            "lm_wording": formatting.LM_WORDING,
            "pools": {name: pool_digest(task.pool) for name, task in tasks.items()},
        }
        paths = {"tasks": collection.root, "feedback": self._store}
        if hub.is_local(self._config.lm) and not self._config.is_told:
            paths["lm"] = expanded(self._config.lm)
        order = self.folder.claim(config, all_sources, paths)
        # Random draws depend on the order of the tasks: keep the original one.
        self.tasks = {name: tasks[name] for name in order or tasks}

    @property
    def first_neighbours(self) -> Callable[[Pool], Neighbours]:
        """What searches a pool in the first iteration: by inputs alone if the targets of queries are not known."""
        return bm25_neighbours if self._config.is_told else first_neighbours

    def finish(self) -> dict[str, Scores]:
        """Score all missing pairs, and return all scores by task.

        Raises:
            ArtifactError: another process is working on the run.
        """
        with locked(self.folder.path):
            self.propose(0, self.first_neighbours)
            return self.scores(0)

    def propose(
        self,
        number: int,
        neighbours: Callable[[Pool], Neighbours],
        num_new: Callable[[], Mapping[str, int]] | None = None,
    ) -> None:
        """Propose the candidates of an iteration by each pool's search, unless they exist.

        Args:
            number: of the iteration.
            neighbours: returns the search of a pool.
            num_new: returns how many new queries to ask of each task; None asks those of the first iteration.
        """
        if self.folder.is_proposed(number):
            return
        counts, asked = None if num_new is None else num_new(), self.folder.candidates(number)
        with self.folder.timed(number, "candidates"):
            proposed = {}
            for name, task in self.tasks.items():
                queries = task.queries if counts is None else task.unasked(asked[name].keys(), counts[name])
                proposed[name] = task.propose(neighbours(task.pool), queries) if queries else {}
            self.folder.propose(number, proposed)

    def scores(self, number: int) -> dict[str, Scores]:
        """Return the scores of all candidates up to an iteration; missing ones are computed and stored.

        Raises:
            PartialError: some pairs failed on every worker that tried them; all others are scored and stored.
        """
        with self.folder.timed(number, "feedback"):
            candidates = self.folder.candidates(number + 1)
            if self._config.is_told:
                return {name: task.told(candidates[name]) for name, task in self.tasks.items()}
            pairs = {name: task.pairs(candidates[name]) for name, task in self.tasks.items()}
            fingerprint, dtype = self._identity["lm"], self._identity["lm_dtype"]
            with FeedbackStore(self._store, fingerprint, dtype, formatting.LM_WORDING) as store:
                scores = {name: stored_scores(store, own) for name, own in pairs.items()}
                # The language model is loaded only for pairs that are not stored.
                if missing := [name for name, own in scores.items() if own is None]:
                    with self._scorer() as lm:
                        for name in missing:
                            scores[name] = score_pairs(lm, store, pairs[name], partial(self._on_progress, name))
                        if isinstance(lm, ScatteredLM):
                            lm.check()
                return {name: own for name, own in scores.items() if own is not None}

    def _identify(self) -> dict[str, str]:
        """Return the model's fingerprint and dtype without loading it; a server that echoes prompts tells its name.

        If outcomes tell the scores, return a hash of their file.
        """
        if self._config.is_told:
            return {"outcomes": sha256(self._store)[:16]}
        if is_remote(self._config.lm):
            with self._paid() as paid:
                lm: PairScorer | RemoteLM
                if self._config.is_answered:
                    lm = load_scorer(self._config, paid, self._budget)
                else:
                    lm = RemoteLM.connect(self._config.lm, read_settings(self._config.lm_set), self._budget, paid)
                return {"lm": lm.fingerprint, "lm_dtype": lm.dtype}
        if self._runner.runner == "local":
            # Workers of a cluster may run elsewhere.
            check_device(self._config.device)
        return {"lm": hub.fingerprint(hub.locate(self._config.lm)), "lm_dtype": self._config.dtype}

    @contextmanager
    def _scorer(self) -> Iterator[FeedbackLM | ScatteredLM | PairScorer]:
        """Open what scores; loaded each time, so that training has the memory for itself."""
        if not is_remote(self._config.lm):
            with opened_lm(self._config, self._runner) as lm:
                yield lm
            return
        with self._paid() as paid:
            if self._config.is_answered:
                yield load_scorer(self._config, paid, self._budget)
            else:
                yield load_lm(self._config, self._budget, paid)

    def _paid(self) -> PaidAnswers:
        """Open a server's answers, beside the scores, which runs can share."""
        return PaidAnswers(self._store.with_name(f"{self._store.stem}-answers.sqlite"))
