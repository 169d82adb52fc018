"""A run's directory: its configuration, its sources, its candidates and its stage times."""

import json
import logging
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from udr.errors import ArtifactError, ConfigError
from udr.files import canonical_json, write_atomically
from udr.types import Json
from udr_training.candidates import Candidates
from udr_training.config import ScoringConfig, from_toml, to_toml

_LOG = logging.getLogger(__name__)

_Config = TypeVar("_Config", bound=ScoringConfig)


class RunFolder:
    """The files of a run apart from its models: ``config.toml``, ``sources.json``, ``places.json``, ``iteration-N/``.

    Args:
        path: the directory; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def claim(self, config: ScoringConfig, sources: Mapping[str, Json], places: Mapping[str, Path]) -> tuple[str, ...]:
        """Claim the directory for a run, or check that it belongs to it; return the tasks in their original order.

        Args:
            config: the run's configuration.
            sources: hashes of the run's inputs.
            places: the paths of the tasks, the scores and a local language model; rewritten each time.

        Raises:
            ConfigError: the directory belongs to a run with another configuration or other sources.
            ArtifactError: its files cannot be read.
        """
        path = self.path / "config.toml"
        if not path.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path / "sources.json", canonical_json(dict(sources), indent=1))
            write_atomically(path, to_toml(config).encode())
        found = self.check(config)
        made_from = self.sources
        changed = [name for name in sources if made_from.get(name) != sources[name]]
        if changed:
            raise ConfigError(
                f"{self.path} holds a run that was started from other {', '.join(changed)}; give another --out"
            )
        noted: dict[str, Json] = {name: self._noted(place) for name, place in places.items()}
        write_atomically(self.path / "places.json", canonical_json(noted, indent=1))
        return found.tasks

    def check(self, config: _Config) -> _Config:
        """Return the run's own configuration, which differs from one asked for in nothing that matters.

        Raises:
            ConfigError: it differs.
            ArtifactError: the directory holds no run.
        """
        found = self.config(type(config))
        if _essence(found) != _essence(config):
            raise ConfigError(
                f"{self.path} holds a run with another configuration ({_changes(found, config)}); give another --out"
            )
        return found

    def _noted(self, place: Path) -> str:
        # What lies in the directory moves with it.
        place, own = place.resolve(), self.path.resolve()
        return str(place.relative_to(own) if place.is_relative_to(own) else place)

    def config(self, kind: type[_Config]) -> _Config:
        """Return the configuration, as much of it as ``kind`` has.

        Raises:
            ArtifactError: the directory holds no run.
        """
        try:
            return from_toml(self._read("config.toml"), kind)
        except (tomllib.TOMLDecodeError, ConfigError) as error:
            raise ArtifactError(f"{self.path}: config.toml is none of a run: {error}") from error

    @property
    def sources(self) -> dict[str, Json]:
        """Hashes of all that the run is made from."""
        return self._json("sources.json")

    @property
    def places(self) -> dict[str, Path]:
        """Where the run's tasks, scores and local language model lie."""
        return {name: self.path / str(place) for name, place in self._json("places.json").items()}

    def scores(self, asked: Path | None) -> Path:
        """Return the file that holds the run's scores: the one asked for, or noted before, or in the directory.

        Raises:
            ConfigError: another file than the one that holds them is asked for.
        """
        own = self.path / "feedback.sqlite"
        noted = self.places.get("feedback", own) if (self.path / "places.json").exists() else None
        if asked is not None and noted is not None and noted.exists() and noted.resolve() != asked.resolve():
            raise ConfigError(f"{self.path} keeps its scores in {noted}, not in {asked}; leave --feedback out")
        return asked or noted or own

    def _json(self, name: str) -> dict[str, Json]:
        try:
            return dict(json.loads(self._read(name)))
        except ValueError as error:
            raise ArtifactError(f"{self.path}: {name} is none of a run: {error}") from error

    def _read(self, name: str) -> str:
        path = self.path / name
        if not path.is_file():
            raise ArtifactError(f"{self.path}: holds no run; {name} is missing")
        return path.read_text("utf-8")

    def iteration(self, number: int) -> Path:
        """Return the folder of one mining iteration."""
        return self.path / f"iteration-{number}"

    def propose(self, number: int, proposed: Mapping[str, Candidates]) -> None:
        """Write the candidates of one iteration, by task."""
        self.iteration(number).mkdir(exist_ok=True)
        write_atomically(self.iteration(number) / "candidates.json", json.dumps(proposed).encode())

    def is_proposed(self, number: int) -> bool:
        """Say whether an iteration has its candidates."""
        return (self.iteration(number) / "candidates.json").exists()

    def candidates(self, iterations: int | None = None) -> dict[str, Candidates]:
        """Return the candidates of the first iterations together, by task, each query's in the order proposed.

        Args:
            iterations: how many; None for all there are.
        """
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
        """Add the seconds that the body takes to the stage's, also when it is interrupted by an error."""
        folder = self.iteration(number)
        folder.mkdir(exist_ok=True)
        started = time.monotonic()
        _LOG.info("%s: %s", folder.name, stage)
        try:
            yield
        finally:
            seconds = self.seconds(number)
            seconds[stage] = round(seconds.get(stage, 0.0) + time.monotonic() - started, 1)
            write_atomically(folder / "seconds.json", json.dumps(seconds).encode())
            _LOG.info("%s: %s took %.1f s", folder.name, stage, seconds[stage])

    def seconds(self, number: int) -> dict[str, float]:
        """Return the seconds of each stage of an iteration."""
        path = self.iteration(number) / "seconds.json"
        return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}


def _essence(config: ScoringConfig) -> ScoringConfig:
    """Return a configuration without what does not affect the result: device, pack size, order of tasks."""
    feedback = replace(config.feedback, device="", pack_tokens=0)
    return replace(config, tasks=tuple(sorted(config.tasks)), feedback=feedback)


def _changes(existing: ScoringConfig, requested: ScoringConfig) -> str:
    lines = zip(to_toml(_essence(existing)).splitlines(), to_toml(_essence(requested)).splitlines(), strict=True)
    return "; ".join(f"{old} here, {new} requested" for old, new in lines if old != new)
