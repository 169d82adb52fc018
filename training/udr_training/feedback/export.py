"""A run's scored pairs, and their cost."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from udr.data import formatting, open_collection
from udr.errors import ArtifactError
from udr.models import hub
from udr.types import Json
from udr_training.config import ScoringConfig
from udr_training.feedback.lm import is_remote
from udr_training.feedback.local import ModelTokenizer
from udr_training.feedback.pairs import Pair, pair_prompt, pair_text
from udr_training.feedback.scoring import pair_score
from udr_training.feedback.store import FeedbackStore
from udr_training.feedback.task import TrainingTask
from udr_training.run_folder import RunFolder

_LOG = logging.getLogger(__name__)


def exported(path: Path) -> Iterator[dict[str, Json]]:
    """Yield a run's scored pairs, task by task, in the order of their proposal.

    Keys: ``task``, ``query_id``, ``demonstration_id``, ``prompt`` (the text before the option), ``prompt_tokens`` (its
    token ids; null for a remote model), ``options``, their ``log_likelihoods`` (sums over tokens), and ``score``.

    Args:
        path: the directory of ``udr feedback score`` or ``udr train``.

    Raises:
        ArtifactError: there is no run, or its tasks or its language model have changed.
    """
    folder = RunFolder(path)
    tasks, tokenizer, missing = _tasks(folder), _tokenizer(folder), 0
    with _store(folder) as store:
        for name, candidates in folder.candidates().items():
            for pair in tasks[name].pairs(candidates):
                likelihoods = store.get([pair.key]).get(pair.key)
                if likelihoods is None:
                    missing += 1
                    continue
                prompt, prompt_tokens = _prompt(tokenizer, pair)
                yield {
                    "task": name,
                    "query_id": pair.query.id,
                    "demonstration_id": pair.demonstration.id,
                    "prompt": prompt,
                    "prompt_tokens": prompt_tokens,
                    "options": list(formatting.options(pair.task, pair.query)),
                    "log_likelihoods": [float(value) for value in likelihoods.sums],
                    "score": pair_score(pair, likelihoods),
                }
    if missing:
        _LOG.warning("%s: %d pairs are not scored yet; resume with --out %s", path, missing, path)


def _prompt(tokenizer: ModelTokenizer | None, pair: Pair) -> tuple[str, list[Json] | None]:
    """Return the text before the option, and its tokens if they are known."""
    if tokenizer is None:
        return pair_text(pair), None
    prompt = pair_prompt(tokenizer, pair)
    # Decoding does not always restore the text, so it is used only for truncated prompts.
    return tokenizer.text(prompt.context) if prompt.lost else pair_text(pair), list(prompt.context)


def _tokenizer(folder: RunFolder) -> ModelTokenizer | None:
    """Return the tokenizer of the prompts; None for a remote language model."""
    name = folder.config(ScoringConfig).feedback.lm
    if is_remote(name):
        return None
    # A relative path may have been given from another working directory.
    name = str(folder.places.get("lm", name))
    if hub.fingerprint(hub.locate(name)) != folder.sources["lm"]:
        raise ArtifactError(f"{folder.path}: the language model {name!r} has changed since the scoring; restore it")
    return ModelTokenizer.load(name)


def _tasks(folder: RunFolder) -> dict[str, TrainingTask]:
    config, made_from = folder.config(ScoringConfig), folder.sources
    if made_from["lm_wording"] != formatting.LM_WORDING:
        raise ArtifactError(
            f"{folder.path}: scored with the wording {made_from['lm_wording']}, but this version of udr uses "
            f"{formatting.LM_WORDING}; score again into another directory"
        )
    collection = open_collection(folder.places["tasks"], config.tasks or None)
    tasks = {name: TrainingTask.cut(task, config) for name, task in collection.tasks.items()}
    pools = made_from["pools"]
    assert isinstance(pools, Mapping)
    changed = [name for name, task in tasks.items() if pools.get(name) != task.digest]
    if changed:
        raise ArtifactError(
            f"{folder.path}: the rows of {', '.join(changed)} in {folder.places['tasks']} have changed since the "
            "scoring; restore them, or score again into another directory"
        )
    return tasks


def _store(folder: RunFolder) -> FeedbackStore:
    made_from, path = folder.sources, folder.places["feedback"]
    if not path.is_file():
        raise ArtifactError(
            f"{folder.path}: its scores were in {path}, which no longer exists; restore the file, or score again"
        )
    return FeedbackStore(path, str(made_from["lm"]), str(made_from["lm_dtype"]), str(made_from["lm_wording"]))


@dataclass(frozen=True, slots=True)
class Statistics:
    """The cost of a language model's scores, over all runs with the same file.

    Attributes:
        pairs: stored pairs.
        scored: computed pairs; more than are stored if some were computed twice.
        cut: computed pairs whose demonstrations were truncated.
        lost: the truncated tokens.
        tokens: tokens of the computed prompts and options, without sharing.
        seconds: seconds in the language model.
        bytes: the size of the file, with other models' scores.
    """

    pairs: int
    scored: int
    cut: int
    lost: int
    tokens: int
    seconds: float
    bytes: int

    def to_json(self) -> dict[str, Json]:
        """Return the numbers by name, with rates."""
        seconds = self.seconds or 1.0
        return {
            "pairs": self.pairs,
            "scored": self.scored,
            "cut": self.cut,
            "lost": self.lost,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
            "pairs_per_second": round(self.scored / seconds, 2),
            "tokens_per_second": round(self.tokens / seconds, 1),
            "bytes": self.bytes,
        }


def statistics(path: Path) -> Statistics:
    """Return the cost of a run's scores.

    Raises:
        ArtifactError: there is no run in the directory.
    """
    folder = RunFolder(path)
    with _store(folder) as store:
        work = store.work
        return Statistics(len(store), work.pairs, work.cut, work.lost, work.tokens, work.seconds, store.num_bytes)
