"""How the approximate partitions of an index version are searched: ``search.json``, the one file that may change.

It is chosen by measurement after the version was built, so the manifest cannot know its checksum; it bears its own.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from udr.errors import VerificationError
from udr.files import write_atomically
from udr.store.manifest import FLAT, Manifest, seal, unseal

SEARCH = "search.json"
SEARCH_TEMPORARY = f".{SEARCH}.tmp"
"""What is beside it while it is written, and stays there when that is killed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSettings:
    """How one partition is searched.

    Attributes:
        parameters: as faiss writes them: ``nprobe=16``, ``efSearch=64``; more than one is separated by commas.
        oversample: for each demonstration that is wanted, so many are proposed by faiss, of which the best by their
            exact similarity are kept.
    """

    parameters: str = ""
    oversample: int = 4


def approximate(manifest: Manifest) -> list[str]:
    """Return the tasks whose partitions have settings: all but the flat ones."""
    return [name for name, part in manifest.partitions.items() if part.kind != FLAT]


def read_settings(folder: Path, manifest: Manifest) -> dict[str, SearchSettings]:
    """Return the settings of each approximate partition of the version in ``folder``.

    Raises:
        VerificationError: the file is missing or altered, or does not fit the version.
    """
    tasks = approximate(manifest)
    if not tasks:
        return {}
    path = folder / SEARCH
    try:
        keys, intact = unseal(path.read_bytes())
        found = {name: SearchSettings(**keys["tasks"][name]) for name in tasks}
    except OSError as error:
        raise VerificationError(f"{path}: is missing or cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise VerificationError(f"{path}: is altered: it holds no settings of each partition") from error
    if not intact or keys["version"] != manifest.version or set(keys["tasks"]) != set(tasks):
        raise VerificationError(f"{path}: is altered, or of another version; run: udr index bench")
    return found


def write_settings(folder: Path, manifest: Manifest, settings: Mapping[str, SearchSettings]) -> None:
    """Write the settings of each approximate partition of the version in ``folder``; readers see old ones or new."""
    tasks = {name: asdict(one) for name, one in settings.items()}
    write_atomically(folder / SEARCH, seal({"version": manifest.version, "tasks": tasks}))
