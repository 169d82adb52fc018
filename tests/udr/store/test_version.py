"""The index on disk: what is written comes back; what is missing, altered or foreign is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.fakes import QUESTIONS
from udr.data import parse_task
from udr.errors import ArtifactError, VerificationError
from udr.store import open_version, parse_manifest, read_current, seal, verify
from udr.types import Json


def version(root: Path) -> Path:
    return root / "versions" / read_current(root)


def rewrite_manifest(root: Path, **changes: Json) -> None:
    """Change keys of the manifest and seal it again, as another udr would have written it."""
    path = version(root) / "manifest.json"
    keys = json.loads(path.read_bytes())
    del keys["sha256"]
    path.write_bytes(seal({**keys, **changes}))


def test_a_version_gives_back_what_was_built(index: Path) -> None:
    opened = open_version(index)

    assert parse_manifest(opened.manifest.to_bytes()) == opened.manifest
    assert (opened.path / "manifest.json").read_bytes() == opened.manifest.to_bytes()
    assert opened.model == "fake-hash"
    assert opened.manifest.partitions["questions"].task == parse_task(QUESTIONS)
    vectors = opened.vectors("questions")
    assert vectors.shape == (24, 48)
    assert vectors.dtype == np.float32
    assert not vectors.flags.writeable
    assert verify(index) == []


def spoil_current(content: bytes) -> Callable[[Path], object]:
    return lambda root: (root / "CURRENT").write_bytes(content)


REFUSED: dict[str, tuple[Callable[[Path], object], type[ArtifactError], str]] = {
    "CURRENT missing": (lambda root: (root / "CURRENT").unlink(), ArtifactError, "there is no CURRENT file"),
    "CURRENT empty": (spoil_current(b""), VerificationError, "CURRENT: is altered"),
    "CURRENT without newline": (spoil_current(b"0123456789abcdef"), VerificationError, "CURRENT: is altered"),
    "CURRENT leading elsewhere": (spoil_current(b"../../../../etc/\n"), VerificationError, "CURRENT: is altered"),
    "CURRENT binary": (spoil_current(b"\xff\0"), VerificationError, "CURRENT: is altered"),
    "CURRENT naming no version": (
        spoil_current(b"0123456789abcdef\n"),
        ArtifactError,
        "names version 0123456789abcdef, but .* does not exist",
    ),
    "manifest missing": (
        lambda root: (version(root) / "manifest.json").unlink(),
        ArtifactError,
        "manifest.json: cannot be read .*incomplete",
    ),
    "manifest not JSON": (
        lambda root: (version(root) / "manifest.json").write_bytes(b"{\xff"),
        VerificationError,
        "manifest.json: the manifest is altered: it is not a JSON object",
    ),
    "manifest a list": (
        lambda root: (version(root) / "manifest.json").write_bytes(b"[]"),
        VerificationError,
        "it is not a JSON object",
    ),
    "manifest of another version": (
        lambda root: rewrite_manifest(root, version="0123456789abcdef"),
        VerificationError,
        "is of version 0123456789abcdef, but lies in",
    ),
    "another format": (
        lambda root: rewrite_manifest(root, format=3),
        ArtifactError,
        "has format 3, this udr reads format 4; run: udr index build",
    ),
    "another wording": (
        lambda root: rewrite_manifest(root, wording="0123456789abcdef"),
        ArtifactError,
        "built with wording 0123456789abcdef, this udr words .*run: udr index build",
    ),
    "a part missing": (
        lambda root: rewrite_manifest(root, tasks={"questions": {"count": 1}}),
        ArtifactError,
        "manifest lacks a part",
    ),
    "a part of the wrong kind": (lambda root: rewrite_manifest(root, files=[]), ArtifactError, "wrong kind"),
    "rows missing": (
        lambda root: (version(root) / "demonstrations.sqlite").unlink(),
        VerificationError,
        "demonstrations.sqlite: is missing",
    ),
    "vectors truncated": (
        lambda root: (version(root) / "partitions/notes/vectors.npy").write_bytes(b"x"),
        VerificationError,
        "vectors.npy: has 1 bytes, the manifest says",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_open_refuses_and_verify_reports(copy: Path, name: str) -> None:
    spoil, kind, message = REFUSED[name]
    spoil(copy)

    with pytest.raises(kind, match=message) as caught:
        open_version(copy)
    assert "\n" not in str(caught.value)
    if name != "another wording":
        # A version that another udr made is whole, though this one cannot use it.
        assert len(verify(copy)) == 1


def test_a_byte_changed_anywhere_in_the_manifest_is_refused(copy: Path) -> None:
    path = version(copy) / "manifest.json"
    data = path.read_bytes()
    for place in range(len(data)):
        with pytest.raises(VerificationError):
            parse_manifest(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    with pytest.raises(VerificationError):
        parse_manifest(data[:-1])


def test_vectors_of_another_shape_or_with_objects_are_refused(copy: Path) -> None:
    opened = open_version(copy)
    path = opened.path / "partitions/notes/vectors.npy"

    for array, message in (
        (np.zeros((3, 48), np.float32), r"must be float32 \[20, 48\], found float32 \[3, 48\]"),
        (np.zeros((20, 48)), "found float64"),
        (np.array([object()]), "cannot be read"),
    ):
        np.save(path, array, allow_pickle=True)
        with pytest.raises(ArtifactError, match=message):
            opened.vectors("notes")
    path.write_bytes(b"")
    with pytest.raises(ArtifactError, match="cannot be read"):
        opened.vectors("notes")
