"""What readers compare: the number of a format, canonical JSON, and the hash of a file."""

import hashlib
import json
from pathlib import Path

from udr.errors import ArtifactError, UdrError
from udr.types import Json


def check_format(
    found: object,
    reads: int,
    what: str,
    remedy: str,
    kind: type[UdrError] = ArtifactError,
    *,
    oldest: int | None = None,
) -> None:
    """Refuse what another version of udr wrote in a format that this one does not read.

    Args:
        found: the format's number in the file; None, in files from before they had one, is 1.
        reads: the number that this version writes and reads.
        what: what has the format.
        remedy: the command that makes it again, or converts it.
        kind: the error to raise.
        oldest: the lowest number that it reads, if that is another.
    """
    found, oldest = 1 if found is None else found, reads if oldest is None else oldest
    if isinstance(found, int) and not isinstance(found, bool) and oldest <= found <= reads:
        return
    newer = isinstance(found, int) and found > reads
    advice = "install the version of udr that made it, or " if newer else ""
    readable = f"format {reads}" if oldest == reads else f"formats {oldest} to {reads}"
    raise kind(f"{what} has format {found!r:.20}, but this udr reads {readable}; {advice}run: {remedy}")


def canonical_json(value: Json, *, indent: int | None = None) -> bytes:
    """Return a value as canonical JSON in UTF-8: sorted keys, no NaN; equal values give equal bytes."""
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
    return text.encode()


def sha256(path: Path) -> str:
    """Return the sha256 of a file's content, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
