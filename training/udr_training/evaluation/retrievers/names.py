"""Names of retrievers (built-in, encoders, runs, indexes): what they mean, and short names for tables."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from udr.errors import ConfigError
from udr.files import RemoteFolder, expanded, remote_url
from udr.models import DEFAULT_ENCODER, PACKAGE, is_local
from udr.retrieval import MODES
from udr.store import CURRENT, local_index
from udr_training.run_folder import contents, working_copy

RANDOM, ORACLE = "random", "oracle"
BM25 = "bm25"
BUILT_IN = (RANDOM, ORACLE, *MODES)
"""Names that mean no file: a mode is a search in that mode by the default encoder."""

_ITERATION = re.compile(r"iteration-\d+")
_LARGEST_CURRENT = 1 << 10


def source_of(name: str) -> str:
    """Return a name without its options."""
    return name.partition("?")[0]


def name_of(path: Path) -> str:
    """Return the name of a run or an index, in whatever folder it is."""
    return f"./{path}" if str(path) in BUILT_IN else str(path)


def is_service(name: str) -> bool:
    """Return whether a name is the URL of a service."""
    return name.startswith(("http://", "https://"))


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return a unique short name for each of several different names: as few last parts of it as are unique.

    A run has the name of its directory, an iteration those of run and iteration. Options stay as they are.
    """
    sources = _short_sources(list(dict.fromkeys(map(source_of, names))))
    return {name: sources[source_of(name)] + name.removeprefix(source_of(name)) for name in names}


def _short_sources(names: Sequence[str]) -> dict[str, str]:
    parts = {name: _parts(name) for name in names}
    # An iteration is always shown with its run.
    num_parts = {name: 2 if _ITERATION.fullmatch(parts[name][-1]) else 1 for name in names}
    while True:
        short = {name: "/".join(parts[name][-num_parts[name] :]) for name in names}
        counts = Counter(short.values())
        ambiguous = [name for name in names if counts[short[name]] > 1]
        extendable = [name for name in ambiguous if num_parts[name] < len(parts[name])]
        if not extendable:
            # Two spellings of one path have the same parts.
            return {name: name if name in ambiguous else short[name] for name in names}
        for name in extendable:
            num_parts[name] += 1


def _parts(name: str) -> list[str]:
    if name in BUILT_IN or is_service(name):
        return [name]
    url = remote_url(name)
    path = os.path.abspath(expanded(name)) if url is None and is_local(name) else name.removeprefix(PACKAGE)
    parts = [part for part in path.split("/") if part not in ("", ".")]
    # The model of a run or an iteration is named by it.
    return parts[:-1] if len(parts) > 1 and parts[-1] == "model" else parts or [name]


def run_of(name: str) -> Path | None:
    """Return the run directory that a name is or lies in (``RUN/iteration-0/model``); None if there is none."""
    if source_of(name) in BUILT_IN or is_service(name):
        return None
    return next((folder for folder in _possible_runs(_place(name)) if (folder / "config.toml").is_file()), None)


def _possible_runs(place: Path) -> list[Path]:
    folders = [place, place.parent] if place.name == "model" else [place]
    return [*folders, place.parent.parent] if _ITERATION.fullmatch(place.parent.name) else folders


def _place(name: str) -> Path:
    """Return the path that a name is; of an index or a run on a remote store, or what is in it, that of a copy."""
    place = expanded(source_of(name))
    if (url := remote_url(place)) is None:
        return place
    for run in _possible_runs(place):
        if (run_url := remote_url(run)) is not None and contents(run_url) is not None:
            return working_copy(run) / place.relative_to(run)
    if RemoteFolder(url).read(CURRENT, _LARGEST_CURRENT) is not None:
        return local_index(url)
    return place


def index_of(name: str) -> Path | None:
    """Return the index directory that a name is; None if it is not one."""
    if source_of(name) in BUILT_IN or is_service(name):
        return None
    folder = _place(name)
    return folder if (folder / CURRENT).is_file() else None


def model_of(name: str) -> str:
    """Return the encoder of a name: of a run directory the final model, of a mode the default one, else the name.

    Raises:
        ConfigError: the run is not finished.
    """
    name = source_of(name)
    if name in MODES:
        return DEFAULT_ENCODER
    folder = _place(name)
    if not (folder / "config.toml").is_file():
        return name if folder == expanded(name) else str(folder)
    if not (folder / "model").is_dir():
        raise ConfigError(f"{name} is an unfinished run; resume it with the `udr train` command that began it")
    return str(folder / "model")
