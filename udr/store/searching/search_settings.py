"""How to search an index version: ``search.json``, the only file that may change.

It has the settings of approximate partitions, and the weights of hybrid searches. Both are measured after the build, so
it has its own checksum instead of one in the manifest. A version with neither has no such file.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from udr.errors import VerificationError
from udr.files import canonical_json, check_format, read_bytes, write_atomically
from udr.store.manifest import FLAT, Manifest, seal, unseal
from udr.store.untrusted import refuse_outside, root_of
from udr.types import Json

SEARCH, FORMAT = "search.json", 1
SEARCH_TEMPORARY = f".{SEARCH}.tmp"
"""The file while it is written; an interrupted write leaves it behind."""

_LARGEST = 16 * 1024 * 1024
_MOST_OVERSAMPLE = 65_536
# faiss allocates by some of the numbers, such as efSearch.
_PARAMETERS = re.compile(r"([A-Za-z_]{1,40}=\d{1,6}(\.\d{1,6})?(,(?=.)|$))*")


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSettings:
    """How to search one partition.

    Attributes:
        parameters: in faiss's form: ``nprobe=16``, ``efSearch=64``, separated by commas.
        oversample: how many proposals of faiss to rank by exact similarity, for each demonstration to return.
    """

    parameters: str = ""
    oversample: int = 4


def approximate(manifest: Manifest) -> list[str]:
    """Return the tasks whose partitions are not flat, and so have settings."""
    return [name for name, part in manifest.partitions.items() if part.kind != FLAT]


def read_settings(folder: Path, manifest: Manifest) -> dict[str, SearchSettings]:
    """Return the settings of each approximate partition of the version in ``folder``.

    Raises:
        VerificationError: the file is missing, altered, or of another version.
    """
    return _read(folder, manifest)[0]


def read_weights(folder: Path, manifest: Manifest) -> dict[str, float]:
    """Return how much the encoder's ranking counts in mode ``hybrid``, from 0 to 1, of each task that has a weight.

    Raises:
        VerificationError: as ``read_settings``.
    """
    return _read(folder, manifest)[1]


def search_digest(folder: Path, manifest: Manifest) -> str:
    """Return a hash of the settings and weights of the version in ``folder``, 16 hex digits.

    Raises:
        VerificationError: as ``read_settings``.
    """
    settings, weights = _read(folder, manifest)
    stored: Json = [{name: asdict(setting) for name, setting in settings.items()}, dict(weights)]
    return hashlib.sha256(canonical_json(stored)).hexdigest()[:16]


def _read(folder: Path, manifest: Manifest) -> tuple[dict[str, SearchSettings], dict[str, float]]:
    path, tasks = folder / SEARCH, approximate(manifest)
    try:
        refuse_outside(path, root_of(folder))
        keys, intact = unseal(read_bytes(path, _LARGEST))
        check_format(keys.get("format") if intact else FORMAT, FORMAT, str(path), "udr index bench", VerificationError)
        settings = {name: _checked(SearchSettings(**keys["tasks"][name])) for name in tasks}
        weights = {name: _checked_weight(manifest, name, value) for name, value in keys.get("hybrid", {}).items()}
        same = intact and keys["version"] == manifest.version and set(keys["tasks"]) == set(tasks)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not tasks:
            return {}, {}
        raise VerificationError(f"{path}: is missing or cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise VerificationError(f"{path}: is altered: it lacks valid settings of a partition") from error
    if not same:
        raise VerificationError(f"{path}: is altered, or belongs to another version; run: udr index bench")
    return settings, weights


def _checked(settings: SearchSettings) -> SearchSettings:
    if not isinstance(settings.parameters, str) or not _PARAMETERS.fullmatch(settings.parameters):
        raise ValueError("parameters")
    if not isinstance(settings.oversample, int) or not 1 <= settings.oversample <= _MOST_OVERSAMPLE:
        raise ValueError("oversample")
    return settings


def _checked_weight(manifest: Manifest, task: str, weight: object) -> float:
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
        raise ValueError("hybrid")
    if task not in manifest.partitions:
        raise KeyError(task)
    return float(weight)


def write_settings(folder: Path, manifest: Manifest, settings: Mapping[str, SearchSettings]) -> None:
    """Write the settings of each approximate partition of the version in ``folder``, atomically; weights stay."""
    try:
        weights = read_weights(folder, manifest)
    except VerificationError:
        # Of a file that is altered or not yet written.
        weights = {}
    write_search(folder, manifest, settings, weights)


def write_weights(folder: Path, manifest: Manifest, weights: Mapping[str, float]) -> None:
    """Write the weight of each task's hybrid searches in the version in ``folder``, atomically; the settings stay.

    Raises:
        VerificationError: as ``read_settings``.
    """
    write_search(folder, manifest, read_settings(folder, manifest), weights)


def write_search(
    folder: Path, manifest: Manifest, settings: Mapping[str, SearchSettings], weights: Mapping[str, float]
) -> None:
    """Write both, the settings of each approximate partition and the weights of tasks, at once.

    Raises:
        VerificationError: the file is a link out of the index.
    """
    path = folder / SEARCH
    refuse_outside(path, root_of(folder))
    keys: dict[str, Json] = {
        "format": FORMAT,
        "version": manifest.version,
        "tasks": {name: asdict(setting) for name, setting in settings.items()},
    }
    # Left out if there are no weights, as in indexes made before there were any.
    write_atomically(path, seal({**keys, **({"hybrid": dict(weights)} if weights else {})}))
