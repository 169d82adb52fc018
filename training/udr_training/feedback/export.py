"""What a run's feedback says, pair by pair, and what it has cost."""

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
    """Yield a run's scored pairs, task by task, in the order they were proposed.

    Each holds ``task``, ``query_id``, ``demonstration_id``, the ``prompt`` before the option as the language model
    read it, ``prompt_tokens`` (its token ids; null for a remote model, whose tokens are not ours to know), the
    ``options`` as scored, their ``log_likelihoods`` (sums over tokens), and the pair's ``score``.

    Args:
        path: the directory of ``udr feedback score`` or ``udr train``.

    Raises:
        ArtifactError: it holds no run, or the tasks or the language model have changed since.
    """
    folder = RunFolder(path)
    tasks, words, missing = _tasks(folder), _words(folder), 0
    with _store(folder) as store:
        for name, candidates in folder.candidates().items():
            for pair in tasks[name].pairs(candidates):
                said = store.get([pair.key]).get(pair.key)
                if said is None:
                    missing += 1
                    continue
                prompt, prompt_tokens = _read(words, pair)
                yield {
                    "task": name,
                    "query_id": pair.query.id,
                    "demonstration_id": pair.demonstration.id,
                    "prompt": prompt,
                    "prompt_tokens": prompt_tokens,
                    "options": list(formatting.options(pair.task, pair.query)),
                    "log_likelihoods": [float(value) for value in said.sums],
                    "score": pair_score(pair, said),
                }
    if missing:
        _LOG.warning("%s: %d pairs are not scored yet; start it again with --out %s", path, missing, path)


def _read(words: ModelTokenizer | None, pair: Pair) -> tuple[str, list[Json] | None]:
    """Return what the language model read before the option: text, and tokens where they are known."""
    if words is None:
        return pair_text(pair), None
    prompt = pair_prompt(words, pair)
    # Tokens do not always spell their text again; they are asked only where text was cut.
    return words.text(prompt.context) if prompt.lost else pair_text(pair), list(prompt.context)


def _words(folder: RunFolder) -> ModelTokenizer | None:
    """Return the tokenizer that cut the prompts; None for a remote language model."""
    name = folder.config(ScoringConfig).feedback.lm
    if is_remote(name):
        return None
    # A path may have been given from another folder than this one.
    name = str(folder.places.get("lm", name))
    if hub.fingerprint(hub.locate(name)) != folder.sources["lm"]:
        raise ArtifactError(f"{folder.path}: the language model {name!r} has changed since it scored; restore it")
    return ModelTokenizer.load(name)


def _tasks(folder: RunFolder) -> dict[str, TrainingTask]:
    config, made_from = folder.config(ScoringConfig), folder.sources
    if made_from["lm_wording"] != formatting.LM_WORDING:
        raise ArtifactError(
            f"{folder.path}: scored with the wording {made_from['lm_wording']}, but this version of udr has "
            f"{formatting.LM_WORDING}; score again into another folder"
        )
    collection = open_collection(folder.places["tasks"], config.tasks or None)
    tasks = {name: TrainingTask.cut(task, config) for name, task in collection.tasks.items()}
    pools = made_from["pools"]
    assert isinstance(pools, Mapping)
    changed = [name for name, task in tasks.items() if pools.get(name) != task.digest]
    if changed:
        raise ArtifactError(
            f"{folder.path}: the rows of {', '.join(changed)} in {folder.places['tasks']} have changed since they "
            "were scored; restore them, or score again into another folder"
        )
    return tasks


def _store(folder: RunFolder) -> FeedbackStore:
    made_from, path = folder.sources, folder.places["feedback"]
    if not path.is_file():
        raise ArtifactError(f"{folder.path}: its scores were kept in {path}, and are no longer there")
    return FeedbackStore(path, str(made_from["lm"]), str(made_from["lm_dtype"]), str(made_from["lm_wording"]))


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a language model's scores have cost, all runs that share the file together.

    Attributes:
        pairs: stored.
        scored: computed; more than are stored where some were computed twice.
        cut: computed of prompts that lost text to the model's window.
        lost: tokens that demonstrations lost there.
        tokens: of the prompts and options computed, each pair counted by itself.
        seconds: in the language model.
        bytes: of the file, other models' scores included.
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
    """Return what the scores of a run have cost.

    Raises:
        ArtifactError: the directory holds no run.
    """
    folder = RunFolder(path)
    with _store(folder) as store:
        work = store.work
        return Statistics(len(store), work.pairs, work.cut, work.lost, work.tokens, work.seconds, store.num_bytes)
