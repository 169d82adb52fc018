"""What can be checked of a run before a model is loaded."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from udr.data import Collection, Kind, Task
from udr.errors import ConfigError, MissingExtraError, ModelError
from udr.models import RunnerOptions, check_tokenizer, hub
from udr_training.answering import check_metric, is_remote
from udr_training.candidates import read_asked
from udr_training.config import FeedbackConfig, RunConfig, ScoringConfig
from udr_training.feedback.pairs import TrainingTask
from udr_training.run_folder import RunFolder


def check_run(path: Path, collection: Collection, config: ScoringConfig, feedback: Path | None = None) -> None:
    """Check a run's directory, rows, models and extras in seconds; nothing is loaded or written.

    Args:
        path: the run directory; it need not exist.
        collection: the tasks.
        config: the run's.
        feedback: the file of scores, if it is shared.

    Raises:
        ConfigError: the directory or the file of scores belongs to another run, the directory is no run's, but
            holds results, or a pool is too small.
        DataError: a row is invalid.
        ModelError: there is no model of a name.
        MissingExtraError: a setting needs a package that is not installed.
    """
    folder = RunFolder(path)
    if (path / "config.toml").exists():
        folder.check(config)
    scores = folder.scores(feedback)
    folder.refuse_results()
    if path.exists() and not path.is_dir():
        raise ConfigError(f"cannot create the run directory: {path} is a file; give another --out")
    if isinstance(config, RunConfig):
        _find("train.model", hub.locate_encoder, config.train.model)
        if config.train.extrapolate == "reward" and config.reward.model:
            _find("reward.model", hub.locate, config.reward.model)
        _need("peft", "train.lora_rank", wanted=bool(config.train.lora_rank))
        _need("tensorboard", "train.tensorboard", wanted=config.train.tensorboard)
    if not config.feedback.is_told:
        _find("feedback.lm", check_lm, config.feedback.lm)
    if config.feedback.tokenizer:
        _find("feedback.tokenizer", check_tokenizer, config.feedback.tokenizer)
    for task in collection.tasks.values():
        _check_kind(config.feedback.kind, task.task)
    fewest = config.train.list_length if isinstance(config, RunConfig) else 1
    asked = read_asked(scores, collection) if config.feedback.is_told else {}
    for name, task in collection.tasks.items():
        TrainingTask.sample(task, config, fewest, asked.get(name, ()))


def _check_kind(kind: str, task: Task) -> None:
    """Check that a kind of feedback can score a task."""
    if kind == "chat-logprobs" and task.kind is Kind.GENERATION:
        raise ConfigError(
            f"feedback.kind {kind!r} scores labels and choices, but task {task.name!r} generates texts; leave it out "
            "by --tasks, or use feedback.kind 'metric' or 'rank'"
        )
    if kind == "metric":
        check_metric(task.metric)


def check_runner(runner: RunnerOptions, config: FeedbackConfig, results: str = "scores") -> None:
    """Raise a ``ConfigError`` if a language model cannot run there, ``MissingExtraError`` without Ray.

    ``results`` are what the model gives.
    """
    runner.check(config.device)
    if runner.is_local:
        return
    if not loads_lm(config):
        what = "outcomes, which need no model" if config.is_told else f"the server {config.lm}"
        raise ConfigError(f"{runner.named} has workers load the model, but {results} come from {what}; omit it")
    _need("ray", "--runner ray", "ray", wanted=runner.runner == "ray")


def loads_lm(config: FeedbackConfig) -> bool:
    """Return whether scores come from a language model that has to be loaded."""
    return not config.is_told and not is_remote(config.lm)


def check_lm(name: str) -> None:
    """Raise ``ModelError`` if there is no language model of a name, ``MissingExtraError`` if it cannot be read."""
    if not is_remote(name) and hub.locate_lm(name).suffix == ".gguf":
        _need("gguf", f"the model {name}")


def _find(setting: str, check: Callable[[str], object], name: str) -> None:
    try:
        check(name)
    except ModelError as error:
        raise ModelError(f"{setting}: {error}") from error


def _need(package: str, what: str, extra: str = "training", *, wanted: bool = True) -> None:
    if wanted and find_spec(package) is None:
        raise MissingExtraError(f"{package}, which {what} needs,", extra)
