"""A run's directory: its configuration, its sources, its candidates and its stage times."""

import json
import logging
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from udr.errors import ArtifactError, ConfigError, system_error
from udr.files import canonical_json, check_format, locked, refuse_remote, write_atomically
from udr.types import Json
from udr_training.answering import read_settings
from udr_training.candidates import Candidates
from udr_training.config import ScoringConfig, Stages, from_toml, to_toml
from udr_training.run_folder.working_copy import upload_copy, url_of

_LOG = logging.getLogger(__name__)

RUN_FORMAT = 1
"""The format of a run's directory."""

_CLAIM_SECONDS = 5.0

_RESULTS = ("model", "report", "manifest.json", "metrics.jsonl", "places.json")
"""What a run reads as its results, beside its iterations."""

_SCORES_OF = ("lm", "lm_dtype", "lm_wording", "outcomes")
"""Sources without which a run's scores are of no use; the settings ``feedback`` are others."""

_WITHOUT_EFFECT = (
    *("feedback.device", "feedback.pack_tokens", "train.fsdp", "train.tensor_parallel"),
    *("train.gradient_checkpointing", "train.mini_batch", "train.tensorboard"),
)
"""Settings that leave the result as it is, but for rounding and which values dropout leaves out."""

_Config = TypeVar("_Config", bound=ScoringConfig)


class RunFolder:
    """The files of a run apart from its models: ``config.toml``, ``sources.json``, ``places.json``, ``iteration-N/``.

    Args:
        path: the directory; it need not exist.
        stages: those of the command that works on the run, to announce them.

    Raises:
        ArtifactError: in all methods that read: a file is missing or invalid.
    """

    def __init__(self, path: Path, stages: Stages | None = None) -> None:
        self.path, self.stages = path, stages

    @property
    def _named(self) -> str:
        """What errors call the directory: of a copy, its URL."""
        return url_of(self.path) or str(self.path)

    def claim(self, config: ScoringConfig, sources: Mapping[str, Json], paths: Mapping[str, Path]) -> tuple[str, ...]:
        """Claim the directory for a run, or check that it belongs to it; return the tasks in their original order.

        Args:
            config: the run's configuration.
            sources: hashes of the run's inputs.
            paths: the paths of the tasks, the scores and a local language model; rewritten each time.

        Raises:
            ConfigError: the directory belongs to a run with another configuration or other sources, or is no run's,
                but holds results.
        """
        path = self.path / "config.toml"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot create the run directory: {system_error(error)}") from error
        # Two processes may start one run at the same time.
        with locked(self.path, _CLAIM_SECONDS):
            if not path.exists():
                self.refuse_results()
                write_atomically(
                    self.path / "sources.json", canonical_json({"format": RUN_FORMAT, **sources}, indent=1)
                )
                write_atomically(path, to_toml(config).encode())
        existing, existing_sources = self.check(config), self.sources
        changed = [name for name in sources if existing_sources.get(name) != sources[name]]
        if changed:
            raise ConfigError(
                f"{self._named} holds a run that started from different {', '.join(changed)}; {self._remedy(changed)}"
            )
        relative: dict[str, Json] = {name: self._relative(target) for name, target in paths.items()}
        write_atomically(self.path / "places.json", canonical_json(relative, indent=1))
        return existing.tasks

    def refuse_results(self) -> None:
        """Raise a ``ConfigError`` if the directory is no run's, but holds what a run would take for its own results."""
        if (self.path / "config.toml").exists() or not self.path.is_dir():
            return
        names = sorted(each.name for each in self.path.iterdir())
        if found := [name for name in names if name in _RESULTS or name.startswith("iteration-")]:
            raise ConfigError(
                f"{self._named} holds no run, since config.toml is missing, but holds {', '.join(found)}, which a run "
                "would take for its own; give another --out"
            )

    def check(self, config: _Config) -> _Config:
        """Return the run's configuration, or raise a ConfigError if its result would differ from that of ``config``."""
        existing = self.config(type(config))
        old, new = _settings(existing), _settings(config)
        changed = [name for name in new if old[name] != new[name]]
        if changed:
            changes = "; ".join(f"{name} = {old[name]} here, {name} = {new[name]} requested" for name in changed)
            raise ConfigError(
                f"{self._named} holds a run with another configuration ({changes}); {self._remedy(changed)}"
            )
        return existing

    def _remedy(self, changed: Iterable[str]) -> str:
        """Return what errors advise if the directory belongs to a run with other settings or sources of these names."""
        scores = self.scores(None)
        others = any(name in _SCORES_OF or name.startswith("feedback.") for name in changed)
        uses = "" if others or not scores.exists() else f"; its scores can be used: --feedback {scores}"
        return f"give another --out{uses}"

    def _relative(self, path: Path) -> str:
        # Files in the directory move with it.
        path, root = path.resolve(), self.path.resolve()
        return str(path.relative_to(root) if path.is_relative_to(root) else path)

    def config(self, kind: type[_Config]) -> _Config:
        """Return the configuration, limited to the fields of ``kind``."""
        try:
            return from_toml(self._read("config.toml"), kind)
        except (tomllib.TOMLDecodeError, ConfigError) as error:
            raise ArtifactError(f"{self._named}: config.toml is invalid: {error}") from error

    @property
    def sources(self) -> dict[str, Json]:
        """Hashes of the run's inputs, and the format of the directory."""
        sources = self._json("sources.json")
        remedy = "udr train, or udr feedback score, with another --out"
        check_format(sources.get("format"), RUN_FORMAT, f"the run {self._named}", remedy)
        return sources

    @property
    def encoders(self) -> tuple[Json, Json]:
        """The fingerprints of the encoders that the training began with and ended with; None where there is none."""
        made = self._json("manifest.json") if (self.path / "manifest.json").exists() else {}
        return self.sources.get("encoder"), made.get("model_fingerprint")

    @property
    def paths(self) -> dict[str, Path]:
        """The paths of the run's tasks, scores and local language model."""
        return {name: self.path / str(path) for name, path in self._json("places.json").items()}

    def scores(self, requested: Path | None) -> Path:
        """Return the file of the run's scores: the requested one, the one used before, or one in the directory.

        Raises:
            ConfigError: the run has its scores in another file than the requested one.
        """
        if requested is not None:
            refuse_remote(requested)
        if requested is not None and requested.is_dir():
            raise ConfigError(f"{requested}: is a folder; --feedback names the file of scores")
        default = self.path / "feedback.sqlite"
        known = self.paths.get("feedback", default) if (self.path / "places.json").exists() else None
        if requested is not None and known is not None and known.exists() and known.resolve() != requested.resolve():
            raise ConfigError(f"{self._named} keeps its scores in {known}, not in {requested}; omit --feedback")
        return requested or known or default

    def _json(self, name: str) -> dict[str, Json]:
        try:
            return dict(json.loads(self._read(name)))
        except ValueError as error:
            raise ArtifactError(f"{self._named}: {name} is invalid: {error}") from error

    def _read(self, name: str) -> str:
        path = self.path / name
        if not path.is_file():
            raise ArtifactError(
                f"{self._named}: holds no run; {name} is missing; name the --out of udr train or udr feedback score"
            )
        return path.read_text("utf-8")

    def iteration(self, number: int) -> Path:
        """Return the folder of an iteration."""
        return self.path / f"iteration-{number}"

    def propose(self, number: int, proposed: Mapping[str, Candidates]) -> None:
        """Write the candidates of one iteration, by task."""
        self.iteration(number).mkdir(exist_ok=True)
        write_atomically(self.iteration(number) / "candidates.json", json.dumps(proposed).encode())

    def is_proposed(self, number: int) -> bool:
        """Return whether an iteration has its candidates."""
        return (self.iteration(number) / "candidates.json").exists()

    def candidates(self, iterations: int | None = None) -> dict[str, Candidates]:
        """Return the union of the first (or all) iterations' candidates, by task, in the order proposed."""
        union: dict[str, dict[str, dict[str, None]]] = {}
        number = 0
        while number != iterations and self.is_proposed(number):
            proposed = json.loads((self.iteration(number) / "candidates.json").read_text("utf-8"))
            for task, candidates in proposed.items():
                for query, ids in candidates.items():
                    union.setdefault(task, {}).setdefault(query, {}).update(dict.fromkeys(ids))
            number += 1
        return {task: {query: tuple(ids) for query, ids in queries.items()} for task, queries in union.items()}

    @contextmanager
    def timed(self, number: int, stage: str) -> Iterator[None]:
        """Add the body's seconds to a stage's, even if an error interrupts it; then upload the copy of a remote run."""
        folder = self.iteration(number)
        folder.mkdir(exist_ok=True)
        started = time.monotonic()
        title = f"{folder.name}: {stage}" if self.stages is None else self.stages.title(stage, number)
        _LOG.info("%s...", title)
        try:
            yield
        finally:
            seconds = self.seconds(number)
            seconds[stage] = round(seconds.get(stage, 0.0) + time.monotonic() - started, 1)
            write_atomically(folder / "seconds.json", json.dumps(seconds).encode())
            _LOG.info("%s took %.1f s", title, seconds[stage])
        upload_copy(self.path)

    def seconds(self, number: int) -> dict[str, float]:
        """Return the seconds of each stage of an iteration."""
        path = self.iteration(number) / "seconds.json"
        return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}


def _settings(config: ScoringConfig) -> dict[str, object]:
    """Return the settings that affect the result, by dotted name."""
    settings: dict[str, object] = {}
    for name, value in (asdict(config) | {"tasks": sorted(config.tasks)}).items():
        settings |= {f"{name}.{key}": value[key] for key in value} if isinstance(value, dict) else {name: value}
    # The key and the rate of requests change no answer.
    settings["feedback.lm_set"] = read_settings(config.feedback.lm_set).asked
    return {name: value for name, value in settings.items() if name not in _WITHOUT_EFFECT}
