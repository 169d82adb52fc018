"""The index on disk: it round-trips, and each missing, altered or foreign part is an error that names it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.fakes import QUESTIONS
from udr.data import parse_task
from udr.errors import ArtifactError, VerificationError
from udr.store import open_version, parse_manifest, read_current, seal, verify
from udr.types import Json

Change = Callable[[Path], object]
OTHER = "0123456789abcdef"


def version(root: Path) -> Path:
    return root / "versions" / read_current(root)


def rewrite_manifest(root: Path, **changes: Json) -> None:
    """Change keys of the manifest and seal it again, as another udr would write it."""
    path = version(root) / "manifest.json"
    keys = json.loads(path.read_bytes())
    del keys["sha256"]
    path.write_bytes(seal({**keys, **changes}))


def test_a_version_round_trips(index: Path) -> None:
    opened = open_version(index)
    manifest = opened.manifest
    assert parse_manifest(manifest.to_bytes()) == manifest
    assert (opened.path / "manifest.json").read_bytes() == manifest.to_bytes()
    reordered = replace(manifest, partitions=dict(reversed(list(manifest.partitions.items()))))
    assert reordered.to_bytes() == manifest.to_bytes()
    assert opened.model == "fake-hash"
    assert manifest.partitions["questions"].task == parse_task(QUESTIONS)
    vectors = opened.vectors("questions")
    assert (vectors.shape, vectors.dtype) == ((24, 48), np.dtype(np.float32)) and not vectors.flags.writeable
    assert verify(index) == []


def current(content: bytes) -> Change:
    return lambda root: (root / "CURRENT").write_bytes(content)


def replaced(name: str, content: bytes | None) -> Change:
    """Replace a file of the version, or remove it."""
    if content is None:
        return lambda root: (version(root) / name).unlink()
    return lambda root: (version(root) / name).write_bytes(content)


def manifest(**changes: Json) -> Change:
    return lambda root: rewrite_manifest(root, **changes)


NOT_JSON = "manifest.json: the manifest is altered: it is not a JSON object"
INVALID: dict[str, tuple[Change, type[ArtifactError], str]] = {
    "CURRENT missing": (lambda root: (root / "CURRENT").unlink(), ArtifactError, r"\(no file CURRENT\)"),
    **{
        f"CURRENT {content!r}": (current(content), VerificationError, "CURRENT: is altered")
        for content in (b"", OTHER.encode(), b"../../../../etc/\n", b"\xff\0")
    },
    "no such version": (current(f"{OTHER}\n".encode()), ArtifactError, f"names version {OTHER}, but .* does not exist"),
    "manifest missing": (replaced("manifest.json", None), ArtifactError, "manifest.json: cannot be read .*incomplete"),
    "manifest not JSON": (replaced("manifest.json", b"{\xff"), VerificationError, NOT_JSON),
    "manifest a list": (replaced("manifest.json", b"[]"), VerificationError, NOT_JSON),
    "another version": (manifest(version=OTHER), VerificationError, f"is of version {OTHER}, but is in"),
    "another format": (
        manifest(format=3),
        ArtifactError,
        "format 3, but this udr reads formats 4 to 5; run: udr index build",
    ),
    "another wording": (
        manifest(wording=OTHER),
        ArtifactError,
        f"wording {OTHER}, but this udr .*run: udr index build",
    ),
    "a missing part": (manifest(tasks={"questions": {"count": 1}}), ArtifactError, "has a missing or invalid part"),
    "an invalid part": (manifest(files=[]), ArtifactError, "has a missing or invalid part"),
    "rows missing": (replaced("demonstrations.sqlite", None), VerificationError, "demonstrations.sqlite: is missing"),
    "truncated": (replaced("partitions/notes/vectors.npy", b"x"), VerificationError, "vectors.npy: has 1 bytes, the m"),
}


@pytest.mark.parametrize("name", INVALID)
def test_open_raises_and_verify_reports(copy: Path, name: str) -> None:
    change, kind, message = INVALID[name]
    change(copy)
    with pytest.raises(kind, match=message) as caught:
        open_version(copy)
    assert "\n" not in str(caught.value)
    # A version with another wording is intact, only of no use here.
    assert len(verify(copy)) == (name != "another wording")


def test_a_change_to_any_byte_of_the_manifest_is_an_error(index: Path) -> None:
    data = (version(index) / "manifest.json").read_bytes()
    for position in range(len(data)):
        with pytest.raises(VerificationError):
            parse_manifest(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
    with pytest.raises(VerificationError):
        parse_manifest(data[:-1])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 48), np.float32), r"must be float32 \[20, 48\], found float32 \[3, 48\]"),
        (np.zeros((20, 48)), "found float64"),
        (np.array([object()]), "cannot be read"),
        (None, "cannot be read"),
    ],
    ids=["another shape", "another type", "objects", "empty"],
)
def test_invalid_vectors_are_an_error(copy: Path, array: np.ndarray | None, message: str) -> None:
    opened = open_version(copy)
    path = opened.path / "partitions/notes/vectors.npy"
    if array is None:
        path.write_bytes(b"")
    else:
        np.save(path, array, allow_pickle=True)
    with pytest.raises(ArtifactError, match=message):
        opened.vectors("notes")
