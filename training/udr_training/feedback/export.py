"""A run's scored pairs, and their cost."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from udr.data import formatting, open_collection, pool_digest
from udr.errors import ArtifactError
from udr.models import hub
from udr.types import Json
from udr_training.answering import is_remote
from udr_training.config import FeedbackConfig, ScoringConfig
from udr_training.feedback.local import ModelTokenizer
from udr_training.feedback.packing import Likelihoods
from udr_training.feedback.pairs import Pair, TrainingTask
from udr_training.feedback.prompts import PromptRenderer, PromptText
from udr_training.feedback.scoring import PairScorer, pair_score
from udr_training.feedback.store import FeedbackStore
from udr_training.run_folder import RunFolder

_LOG = logging.getLogger(__name__)


def exported(path: Path) -> Iterator[dict[str, Json]]:
    """Yield the scored pairs of the run in a directory, task by task, in the order of their proposal.

    Keys: ``task``, ``query_id``, ``demonstration_id``, ``prompt`` (the text before the option), ``prompt_tokens`` (its
    token ids; null for a remote model), ``options``, their ``log_likelihoods`` (sums over tokens), and ``score``.

    Raises:
        ArtifactError: there is no run, or its tasks or its language model have changed.
    """
    folder = RunFolder(path)
    with scored_with(folder):
        # A run without scores of a language model has been refused.
        tokenizer = _tokenizer(folder)
    for pair, text, likelihoods in scored_pairs(folder):
        shown, tokens = text.before_options, None
        if tokenizer is not None:
            prompt = text.tokenize(tokenizer, num_common=len(pair.context))
            tokens = list(prompt.context)
            # Decoding does not always restore the text, so it is used only for truncated prompts.
            shown = tokenizer.text(prompt.context) if prompt.lost else shown
        yield {
            "task": pair.task.name,
            "query_id": pair.query.id,
            "demonstration_id": pair.demonstration.id,
            "prompt": shown,
            "prompt_tokens": tokens,
            "options": list(text.options),
            "log_likelihoods": [float(value) for value in likelihoods.sums],
            "score": pair_score(pair, likelihoods),
        }


def scored_pairs(folder: RunFolder) -> Iterator[tuple[Pair, PromptText, Likelihoods]]:
    """Yield a run's scored pairs, task by task, in the order of their proposal, with their texts and likelihoods.

    Raises:
        ArtifactError: no language model scored them, or the run's tasks have changed.
    """
    missing = 0
    with scored_with(folder) as store:
        tasks = scored_tasks(folder)
        for name, candidates in folder.candidates().items():
            renderer = PromptRenderer()
            for pair in tasks[name].pairs(candidates):
                text = pair.text(renderer)
                if (likelihoods := store.get([text.key]).get(text.key)) is None:
                    missing += 1
                else:
                    yield pair, text, likelihoods
    if missing:
        _LOG.warning("%s: %d pairs are not scored yet; resume with --out %s", folder.path, missing, folder.path)


def _tokenizer(folder: RunFolder) -> ModelTokenizer | None:
    """Return the tokenizer of the prompts; None for a remote language model."""
    name = scored_by(folder).lm
    if is_remote(name):
        return None
    refuse_other_lm(folder)
    return ModelTokenizer.load(name)


def refuse_other_lm(folder: RunFolder) -> None:
    """Raise an ``ArtifactError`` if the files of the language model that scored a run here have changed since."""
    name = scored_by(folder).lm
    if hub.fingerprint(hub.locate(name)) != folder.sources["lm"]:
        raise ArtifactError(f"{folder.path}: the language model {name!r} has changed since the scoring; restore it")


def scored_tasks(folder: RunFolder) -> dict[str, TrainingTask]:
    """Return a run's tasks; raise an ``ArtifactError`` if their rows or the wording have changed since the scoring."""
    config, sources, root = folder.config(ScoringConfig), folder.sources, folder.paths["tasks"]
    if sources["lm_wording"] != formatting.LM_WORDING:
        raise ArtifactError(
            f"{folder.path}: scored with the wording {sources['lm_wording']}, but this version of udr uses "
            f"{formatting.LM_WORDING}; score again into another directory"
        )
    collection = open_collection(root, config.tasks or None)
    tasks = {name: TrainingTask.sample(task, config) for name, task in collection.tasks.items()}
    pools = sources["pools"]
    assert isinstance(pools, Mapping)
    changed = [name for name, task in tasks.items() if pools.get(name) != pool_digest(task.pool)]
    if changed:
        raise ArtifactError(
            f"{folder.path}: the rows of {', '.join(changed)} in {root} have changed since the scoring; restore them, "
            "or score again into another directory"
        )
    return tasks


def scored_by(folder: RunFolder) -> FeedbackConfig:
    """Return the settings of a run's feedback, with the language model by a path that is right in any folder."""
    config = folder.config(ScoringConfig).feedback
    if is_remote(config.lm):
        return config
    # A relative path may have been given from another working directory.
    return replace(config, lm=str(folder.paths.get("lm", config.lm)))


def scored_with(folder: RunFolder, scorer: PairScorer | None = None) -> FeedbackStore:
    """Open a run's scores, or those of another scorer in the same file.

    Raises:
        ArtifactError: no language model scored the run, or the file is gone.
    """
    path = folder.paths["feedback"]
    if folder.config(ScoringConfig).feedback.is_told:
        raise ArtifactError(f"{folder.path}: no language model scored its pairs; their scores are lines of {path}")
    if not path.is_file():
        raise ArtifactError(
            f"{folder.path}: its scores were in {path}, which no longer exists; restore the file, or score again"
        )
    lm, dtype, wording = (str(folder.sources[name]) for name in ("lm", "lm_dtype", "lm_wording"))
    return FeedbackStore(path, *((scorer.fingerprint, scorer.dtype) if scorer else (lm, dtype)), wording)


def statistics(path: Path) -> dict[str, Json]:
    """Return the cost of a language model's scores, over all runs with the same file.

    Keys: ``pairs`` (stored), ``scored`` (see ``Work.pairs``), ``cut``, ``lost``, ``tokens`` and ``seconds`` (see
    ``Work``), ``pairs_per_second``, ``tokens_per_second``, and ``bytes`` (of the file, with other models' scores).

    Raises:
        ArtifactError: there is no run in the directory.
    """
    with scored_with(RunFolder(path)) as store:
        work = store.work
        return {
            "pairs": len(store),
            "scored": work.pairs,
            "cut": work.cut,
            "lost": work.lost,
            "tokens": work.tokens,
            "seconds": round(work.seconds, 3),
            "pairs_per_second": round(work.pairs / (work.seconds or 1.0), 2),
            "tokens_per_second": round(work.tokens / (work.seconds or 1.0), 1),
            "bytes": store.num_bytes,
        }
