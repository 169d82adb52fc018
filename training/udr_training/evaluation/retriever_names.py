"""Names of retrievers (built-in, encoders, runs), and short names for tables."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from udr.errors import ConfigError
from udr.models import PACKAGE, is_local

RANDOM, BM25, ORACLE = "random", "bm25", "oracle"
BUILT_IN = (RANDOM, BM25, ORACLE)

_ITERATION = re.compile(r"iteration-\d+")


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return a unique short name for each of several different names: as few last parts of it as are unique.

    A run has the name of its directory, an iteration those of run and iteration.
    """
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
    if name in BUILT_IN:
        return [name]
    path = os.path.abspath(Path(name).expanduser()) if is_local(name) else name.removeprefix(PACKAGE)
    parts = [part for part in path.split("/") if part not in ("", ".")]
    # The model of a run or an iteration is named by it.
    return parts[:-1] if len(parts) > 1 and parts[-1] == "model" else parts or [name]


def run_of(name: str) -> Path | None:
    """Return the run directory that a name is or lies in (``RUN/iteration-0/model``); None if there is none."""
    if name in BUILT_IN:
        return None
    folder = Path(name).expanduser()
    candidates = [folder, folder.parent] if folder.name == "model" else [folder]
    if _ITERATION.fullmatch(folder.parent.name):
        candidates.append(folder.parent.parent)
    return next((candidate for candidate in candidates if (candidate / "config.toml").is_file()), None)


def model_of(name: str) -> str:
    """Return the final model of a run directory, or the name itself if it is not one.

    Raises:
        ConfigError: the run is not finished.
    """
    folder = Path(name).expanduser()
    if not (folder / "config.toml").is_file():
        return name
    if not (folder / "model").is_dir():
        raise ConfigError(f"{name} is an unfinished run; resume it with `udr train --out {name}`")
    return str(folder / "model")
