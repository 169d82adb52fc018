"""Configurations as TOML: a preset, overridden by a file, overridden by options; and a run's own copy."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from importlib.resources import files as resources
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import tomli_w

from udr.errors import ConfigError, DataError, system_error
from udr.files import read_toml
from udr_training.config.run import RewardConfig, RunConfig, TrainConfig, refuse_without_effect
from udr_training.config.scores import CandidateConfig, FeedbackConfig, ScoringConfig

_Config = TypeVar("_Config", bound=ScoringConfig)

PRESETS: Mapping[str, str] = {
    "cpu": "for two cores, an hour or two for a few tasks",
    "default": "for one GPU, more queries and candidates",
    "paper": "the paper's own numbers, for a large GPU",
}
"""The presets, and what each is for."""


def load_config(preset: str, overrides: Mapping[str, object], file: Path | None = None) -> RunConfig:
    """Return a preset's configuration, overridden by a TOML file's values, overridden by ``overrides``.

    Args:
        preset: one of ``PRESETS``.
        overrides: by dotted name, such as ``train.epochs``; None is ignored.
        file: with the tables ``candidates``, ``feedback``, ``train`` and ``reward``.

    Raises:
        ConfigError: a name is unknown, a value is invalid, or one of ``overrides`` has no effect beside the others.
    """
    if preset not in PRESETS:
        known = "; ".join(f"{name}, {what}" for name, what in PRESETS.items())
        raise ConfigError(f"--preset must be one of {known}; found {preset!r}")
    values = tomllib.loads(resources("udr_training").joinpath("presets", f"{preset}.toml").read_text("utf-8"))
    if file is not None:
        try:
            values = _merged(values, read_toml(file))
        except DataError as error:
            raise ConfigError(str(error)) from error
        except OSError as error:
            raise ConfigError(system_error(error)) from error
    given = {name: value for name, value in overrides.items() if value is not None}
    # All at once: two values can be valid together but not one by one.
    config = _apply(RunConfig(), _merged(values, _tables(given)))
    # Presets and files set what all losses have.
    refuse_without_effect(config, given)
    return config


def with_settings(config: _Config, settings: Mapping[str, object]) -> _Config:
    """Return a configuration with some settings changed, by dotted name; errors as ``load_config``."""
    return _apply(config, _tables(settings))


def _tables(settings: Mapping[str, object]) -> dict[str, Any]:
    """Return settings by dotted name as TOML has them, in a table for each stage."""
    values: dict[str, Any] = {}
    for name, value in settings.items():
        stage, _, key = name.rpartition(".")
        values = _merged(values, {stage: {key: value}} if stage else {key: value})
    return values


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    both = [name for name, value in new.items() if isinstance(value, Mapping) and isinstance(old.get(name), Mapping)]
    return {**old, **new, **{name: _merged(old[name], new[name]) for name in both}}


def settings_of(lines: Sequence[str]) -> dict[str, object]:
    """Return the values of ``NAME=VALUE`` settings, by dotted name; a value is TOML or a bare word.

    Raises:
        ConfigError: a setting has another form.
    """
    settings: dict[str, object] = {}
    for line in lines:
        name, equals, value = line.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"a setting must be NAME=VALUE, such as train.epochs=4; found {line!r}")
        try:
            settings[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            settings[name.strip()] = value.strip()
    return settings


def setting_flags() -> dict[str, str]:
    """Return the options that set what an error names, by regular expressions of the settings' dotted names."""
    stages = {"candidates": CandidateConfig, "feedback": FeedbackConfig, "train": TrainConfig, "reward": RewardConfig}
    names = [f"{stage}.{field.name}" for stage, kind in stages.items() for field in fields(kind)]
    options = {name: f"{_OPTIONS[name]} ({name})" if name in _OPTIONS else f"--set {name}" for name in names}
    # Not in paths, values, and what is replaced already.
    return {rf"(?<![\w./(]){re.escape(name)}\b(?![=)])": option for name, option in options.items()}


_OPTIONS = {
    "candidates.later": "--later",
    "candidates.num_candidates": "--candidates",
    "candidates.pool": "--pool",
    "candidates.queries": "--queries",
    "candidates.random_share": "--random-share",
    "candidates.shared": "--shared",
    "feedback.context": "--context",
    "feedback.device": "--device",
    "feedback.dtype": "--dtype",
    "feedback.kind": "--kind",
    "feedback.lm": "--lm",
    "feedback.lm_set": "--lm-set",
    "feedback.pack_tokens": "--pack-tokens",
    "train.batch_size": "--batch-size",
    "train.centre_scores": "--centre-scores",
    "train.dtype": "--train-dtype",
    "train.epochs": "--epochs",
    "train.extrapolate": "--extrapolate",
    "train.iterations": "--iterations",
    "train.label_aware": "--label-aware",
    "train.learning_rate": "--learning-rate",
    "train.loss": "--loss",
    "train.model": "--model",
    "train.ranking_weight": "--ranking-weight",
    "train.towers": "--towers",
}


def to_toml(config: ScoringConfig) -> str:
    """Return the configuration as TOML; ``from_toml`` reads it back."""
    return tomli_w.dumps(asdict(config))


def from_toml(text: str, kind: type[_Config]) -> _Config:
    """Return the configuration that ``to_toml`` wrote, limited to the fields of ``kind``."""
    known = get_type_hints(kind)
    return _apply(kind(), {name: value for name, value in tomllib.loads(text).items() if name in known})


_Stage = TypeVar("_Stage", bound=ScoringConfig | CandidateConfig | FeedbackConfig | TrainConfig | RewardConfig)


def _apply(stage: _Stage, values: Mapping[str, Any]) -> _Stage:
    types = get_type_hints(type(stage))
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in types:
            raise ConfigError(f"unknown setting {name!r}; the known settings are {', '.join(types)}")
        old: Any = getattr(stage, name)
        is_table = isinstance(value, Mapping) and is_dataclass(old)
        changes[name] = _apply(old, value) if is_table else _checked(name, value, types[name])
    return replace(stage, **changes)


_LISTED = {"tasks": "names", "lm_set": "texts NAME=VALUE"}


def _checked(name: str, value: object, kind: type) -> object:
    if name in ("tasks", "lm_set"):
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise ConfigError(f"setting {name!r} must be a list of {_LISTED[name]}, found {value!r}")
        return tuple(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
        raise ConfigError(f"setting {name!r} must be of type {kind.__name__}, found {value!r}")
    return value
