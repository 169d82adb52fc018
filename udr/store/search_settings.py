"""How to search the approximate partitions of an index version: ``search.json``, the only file that may change.

It is measured after the build, so it has its own checksum instead of one in the manifest.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from udr.errors import VerificationError
from udr.files import write_atomically
from udr.store.manifest import FLAT, Manifest, seal, unseal

SEARCH = "search.json"
SEARCH_TEMPORARY = f".{SEARCH}.tmp"
"""The file while it is written; an interrupted write leaves it behind."""


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
        keys, intact = unseal(path.read_bytes())
        settings = {name: SearchSettings(**keys["tasks"][name]) for name in tasks}
    except OSError as error:
        raise VerificationError(f"{path}: is missing or cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise VerificationError(f"{path}: is altered: it lacks the settings of a partition") from error
    if not intact or keys["version"] != manifest.version or set(keys["tasks"]) != set(tasks):
        raise VerificationError(f"{path}: is altered, or belongs to another version; run: udr index bench")
    return settings


def write_settings(folder: Path, manifest: Manifest, settings: Mapping[str, SearchSettings]) -> None:
    """Write the settings of each approximate partition of the version in ``folder``, atomically."""
    tasks = {name: asdict(setting) for name, setting in settings.items()}
    write_atomically(folder / SEARCH, seal({"version": manifest.version, "tasks": tasks}))
