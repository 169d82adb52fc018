"""How to search the approximate partitions of an index version: ``search.json``, the only file that may change.

It is measured after the build, so it has its own checksum instead of one in the manifest.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from udr.errors import VerificationError
from udr.files import read_bytes, write_atomically
from udr.store.containment import refuse_outside, root_of
from udr.store.manifest import FLAT, Manifest, seal, unseal

SEARCH = "search.json"
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
    tasks = approximate(manifest)
    if not tasks:
        return {}
    path = folder / SEARCH
    try:
        refuse_outside(path, root_of(folder))
        keys, intact = unseal(read_bytes(path, _LARGEST))
        settings = {name: _checked(SearchSettings(**keys["tasks"][name])) for name in tasks}
        same = intact and keys["version"] == manifest.version and set(keys["tasks"]) == set(tasks)
    except OSError as error:
        raise VerificationError(f"{path}: is missing or cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise VerificationError(f"{path}: is altered: it lacks valid settings of a partition") from error
    if not same:
        raise VerificationError(f"{path}: is altered, or belongs to another version; run: udr index bench")
    return settings


def _checked(settings: SearchSettings) -> SearchSettings:
    if not isinstance(settings.parameters, str) or not _PARAMETERS.fullmatch(settings.parameters):
        raise ValueError("parameters")
    if not isinstance(settings.oversample, int) or not 1 <= settings.oversample <= _MOST_OVERSAMPLE:
        raise ValueError("oversample")
    return settings


def write_settings(folder: Path, manifest: Manifest, settings: Mapping[str, SearchSettings]) -> None:
    """Write the settings of each approximate partition of the version in ``folder``, atomically."""
    tasks = {name: asdict(setting) for name, setting in settings.items()}
    write_atomically(folder / SEARCH, seal({"version": manifest.version, "tasks": tasks}))
