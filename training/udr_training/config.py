"""Configuration: one frozen dataclass a stage, from a preset, a TOML file and flags."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from udr.errors import ConfigError
from udr.models import DEFAULT_ENCODER, DEFAULT_LM

_Config = TypeVar("_Config", bound="ScoringConfig")

DTYPES = ("float32", "bfloat16", "float16")
PRESETS = ("cpu", "default", "paper")


@dataclass(frozen=True, kw_only=True)
class CandidateConfig:
    """Which pairs are scored.

    Attributes:
        pool: rows of a task's pool, chosen by seed; 0 for all.
        queries: training queries a task, chosen by seed among the pool; 0 for all.
        num_candidates: K, candidates a query and iteration.
        random_share: the share of them drawn at random.
    """

    pool: int = 0
    queries: int = 0
    num_candidates: int = 50
    random_share: float = 0.0


@dataclass(frozen=True, kw_only=True)
class FeedbackConfig:
    """Who scores them.

    Attributes:
        lm: the feedback language model's name.
        dtype: of its weights.
        device: where it runs.
        context: demonstrations shown before the one that is scored, drawn for each query; the paper has 0.
        pack_tokens: tokens a pack; 0 takes what was measured to be best on the device.
    """

    lm: str = DEFAULT_LM
    dtype: str = "float32"
    device: str = "cpu"
    context: int = 0
    pack_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the encoder is trained in each iteration.

    Attributes:
        model: the encoder to start from, in every iteration.
        towers: 1 shares one encoder between queries and demonstrations, 2 trains one for each.
        iterations: trainings; candidates are mined with the last trained encoder between them.
        epochs: visits to each training query, on average.
        batch_size: queries a step.
        list_length: l, candidates a query and step.
        learning_rate: the peak of a linear schedule.
        warmup: the share of steps before the peak.
        temperature: divides cosines; 0 takes the plain dot product.
        ranking_weight: λ of the loss.
        alpha: tasks are drawn with p ∝ q^α.
        max_tokens: the encoder's longest text; 0 leaves it to the model.
        dtype: what is computed in; weights stay float32 (autocast).
    """

    model: str = DEFAULT_ENCODER
    towers: int = 1
    iterations: int = 3
    epochs: int = 6
    batch_size: int = 64
    list_length: int = 8
    learning_rate: float = 3e-5
    warmup: float = 0.1
    temperature: float = 0.05
    ranking_weight: float = 0.8
    alpha: float = 0.5
    max_tokens: int = 256
    dtype: str = "float32"


@dataclass(frozen=True, kw_only=True)
class ScoringConfig:
    """Everything that scores depend on, beside the tasks' rows.

    Raises:
        ConfigError: a value makes no sense.
    """

    tasks: tuple[str, ...] = ()
    seed: int = 0
    candidates: CandidateConfig = CandidateConfig()
    feedback: FeedbackConfig = FeedbackConfig()

    def __post_init__(self) -> None:
        candidates, feedback = self.candidates, self.feedback
        _check_least(
            {
                "seed": (self.seed, 0),
                "candidates.pool": (candidates.pool, 0),
                "candidates.queries": (candidates.queries, 0),
                "candidates.num_candidates": (candidates.num_candidates, 1),
                "feedback.context": (feedback.context, 0),
                "feedback.pack_tokens": (feedback.pack_tokens, 0),
            }
        )
        _check_shares({"candidates.random_share": candidates.random_share})
        if feedback.dtype not in DTYPES:
            raise ConfigError(f"feedback.dtype must be one of {', '.join(DTYPES)}, found {feedback.dtype!r}")


@dataclass(frozen=True, kw_only=True)
class RunConfig(ScoringConfig):
    """Everything that a training run's result depends on, beside the tasks' rows.

    Raises:
        ConfigError: a value makes no sense, alone or beside another.
    """

    train: TrainConfig = TrainConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        train = self.train
        at_least: dict[str, tuple[float, float]] = {
            "train.iterations": (train.iterations, 1),
            "train.epochs": (train.epochs, 1),
            "train.batch_size": (train.batch_size, 1),
            "train.list_length": (train.list_length, 2),
            "train.temperature": (train.temperature, 0),
            "train.max_tokens": (train.max_tokens, 0),
            "train.alpha": (train.alpha, 0),
        }
        _check_least(at_least)
        if not 0 < train.learning_rate < math.inf:
            raise ConfigError(f"train.learning_rate must be above 0, found {train.learning_rate}")
        if train.dtype not in ("float32", "bfloat16"):
            raise ConfigError(f"train.dtype must be float32 or bfloat16, found {train.dtype!r}")
        if train.towers not in (1, 2):
            raise ConfigError(f"train.towers must be 1 or 2, found {train.towers}")
        _check_shares({"train.warmup": train.warmup, "train.ranking_weight": train.ranking_weight})
        if train.list_length > self.candidates.num_candidates:
            raise ConfigError(
                f"train.list_length ({train.list_length}) must not exceed candidates.num_candidates "
                f"({self.candidates.num_candidates}): a step sees some of the candidates"
            )


def _check_least(values: Mapping[str, tuple[float, float]]) -> None:
    for name, (value, least) in values.items():
        if not value >= least or value == math.inf:
            raise ConfigError(f"{name} must be at least {least}, found {value}")


def _check_shares(values: Mapping[str, float]) -> None:
    for name, share in values.items():
        if not 0 <= share <= 1:
            raise ConfigError(f"{name} must be between 0 and 1, found {share}")


def load_config(preset: str, overrides: Mapping[str, object], file: Path | None = None) -> RunConfig:
    """Return the preset's configuration, changed by a file's values, changed by ``overrides``.

    Args:
        preset: ``cpu``, ``default`` or ``paper``.
        overrides: by dotted name, ``train.epochs``; None values are ignored.
        file: a TOML file with the tables ``candidates``, ``feedback`` and ``train``.

    Raises:
        ConfigError: a name is unknown, a value is of the wrong type or makes no sense.
    """
    if preset not in PRESETS:
        raise ConfigError(f"unknown preset {preset!r}; there are {', '.join(PRESETS)}")
    values = tomllib.loads(files("udr_training").joinpath("presets", f"{preset}.toml").read_text("utf-8"))
    config = _apply(RunConfig(), values)
    if file is not None:
        try:
            config = _apply(config, tomllib.loads(file.read_text("utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{file}: cannot be read: {error}") from error
    for name, value in overrides.items():
        if value is not None:
            stage, _, key = name.rpartition(".")
            config = _apply(config, {stage: {key: value}} if stage else {key: value})
    return config


def to_toml(config: ScoringConfig) -> str:
    """Return the configuration as TOML; ``from_toml`` reads it back."""
    values = asdict(config)
    lines = [f"{name} = {_literal(value)}" for name, value in values.items() if not isinstance(value, dict)]
    for stage, table in values.items():
        if isinstance(table, dict):
            lines += ["", f"[{stage}]", *(f"{name} = {_literal(value)}" for name, value in table.items())]
    return "\n".join(lines) + "\n"


def from_toml(text: str, kind: type[_Config]) -> _Config:
    """Return the configuration that ``to_toml`` wrote, as much of it as ``kind`` has."""
    known = get_type_hints(kind)
    return _apply(kind(), {name: value for name, value in tomllib.loads(text).items() if name in known})


def _literal(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return repr(value)


_Stage = TypeVar("_Stage", bound=ScoringConfig | CandidateConfig | FeedbackConfig | TrainConfig)


def _apply(stage: _Stage, values: Mapping[str, object]) -> _Stage:
    kinds = get_type_hints(type(stage))
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in kinds:
            raise ConfigError(f"unknown setting {name!r}; known are {', '.join(kinds)}")
        old = getattr(stage, name)
        changes[name] = _apply(old, value) if isinstance(value, Mapping) else _checked(name, value, kinds[name])
    return replace(stage, **changes)


def _checked(name: str, value: object, kind: type) -> object:
    if name == "tasks":
        if not isinstance(value, list | tuple) or not all(isinstance(task, str) for task in value):
            raise ConfigError(f"setting 'tasks' must be a list of names, found {value!r}")
        return tuple(value)
    if kind is float and isinstance(value, int):
        value = float(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ConfigError(f"setting {name!r} must be of type {kind.__name__}, found {value!r}")
    return value
