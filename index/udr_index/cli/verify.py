"""The command ``udr index verify``."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from udr.cli import AllowHub, AsJson, IndexDir, print_json, print_text, refuse_unused
from udr.errors import ArtifactError, VerificationError
from udr_index.plural import counted

if TYPE_CHECKING:
    from udr.store import IndexVersion

_LOG = logging.getLogger(__name__)


def verify(
    index: IndexDir,
    sample: Annotated[
        int, typer.Option(help="Rows per task to encode again; 0 compares checksums only.", min=0, metavar="N")
    ] = 16,
    allow_hub: AllowHub = False,
    as_json: AsJson = False,
) -> None:
    """Compare every file with its checksum, and a sample of the vectors with the encoder's output.

    Prints one line per finding. The exit status is 3 if there is any. Vectors of an index that an older udr made, which
    read texts in another wording, are not compared.
    """
    from udr.store import local_index, read_current
    from udr.store import verify as check
    from udr_index.versions.live import verify_log

    if not sample:
        refuse_unused({"--allow-hub": allow_hub}, "a sample, which the encoder encodes")
    index = local_index(index)
    if not index.is_dir():
        # Says that there is none.
        read_current(index)
    findings = check(index)
    # Rows and vectors of damaged files are not worth comparing.
    version = None if findings else _readable(index)
    findings += verify_log(index, version)
    if sample and version is not None and not findings:
        from udr.store import named_encoder
        from udr_index.versions import compare_vectors

        findings = list(compare_vectors(version, named_encoder(version, allow_hub=allow_hub), sample))
    if as_json:
        print_json({"whole": not findings, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            print_text(str(finding))
    if findings:
        raise VerificationError(f"{index}: damaged, {counted(len(findings), 'finding')}")
    if not as_json:
        print_text(f"{index}: intact")


def _readable(index: Path) -> "IndexVersion | None":
    """Return the current version; None, with a warning, if this udr would word its texts otherwise."""
    from udr.store import open_version, read_current, read_manifest, refuse_wording, version_path

    folder = version_path(index, read_current(index))
    try:
        refuse_wording(read_manifest(folder), folder)
    except ArtifactError as error:
        _LOG.warning("only checksums are compared, not vectors: %s", error)
        return None
    return open_version(index, folder.name)
