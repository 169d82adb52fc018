"""Random damages to the files of an index: all are found, and no damaged version is searched."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes import HashEncoder
from tests.index.builds import build_index
from udr.errors import ArtifactError
from udr.models import fingerprint
from udr.retrieval import Retriever
from udr.store import open_version, verify

OPENED_EVERY = 10

RANDOM = random.Random(0)


@pytest.fixture(scope="module")
def intact(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, HashEncoder]:
    """An index with every kind of file: two versions, copied model, faiss, BM25, search settings; and its encoder."""
    model = tmp_path_factory.mktemp("model") / "encoder"
    (model / "1_Pooling").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "1_Pooling/config.json"):
        (model / name).write_text(f"{name} of an encoder", "utf-8")
    encoder, out = HashEncoder(name=str(model)), tmp_path_factory.mktemp("intact") / "out"
    encoder.fingerprint = fingerprint(model)
    for pool in (4, 9):
        build_index(collection, out, encoder, pool=pool, kind="IVF2,Flat", bm25=True)
    return out, encoder


def flip(data: bytes) -> bytes:
    position = RANDOM.randrange(len(data))
    return data[:position] + bytes([data[position] ^ 1 << RANDOM.randrange(8)]) + data[position + 1 :]


def truncate(data: bytes) -> bytes:
    return data[: RANDOM.randrange(len(data))]


def damage(path: Path, kind: str) -> Callable[[], object]:
    """Damage a file, and return what repairs it."""
    data = path.read_bytes()
    if kind == "add":
        new = path.with_name(f"{RANDOM.randrange(10**6)}{path.suffix}")
        new.write_bytes(RANDOM.randbytes(RANDOM.randrange(40)))
        return new.unlink
    if kind == "delete":
        path.unlink()
    else:
        path.write_bytes({"flip": flip, "truncate": truncate}[kind](data))
    return lambda: path.write_bytes(data)


@pytest.mark.parametrize("damages", [250, pytest.param(1000, marks=pytest.mark.slow)])
def test_every_damage_is_found_and_none_is_searched(intact: tuple[Path, HashEncoder], damages: int) -> None:
    root, encoder = intact
    paths = sorted(path for path in root.rglob("*") if path.is_file() and path.name != ".lock")
    names = {"CURRENT", "manifest.json", "search.json", "index.faiss", "vectors.npy", "model.safetensors"}
    assert names <= {path.name for path in paths}
    current, missed = open_version(root).path, []
    Retriever.open(root, encoder=encoder).close()
    for number in range(damages):
        path, kind = RANDOM.choice(paths), RANDOM.choice(["flip", "truncate", "delete", "add"])
        repair = damage(path, kind)
        if not verify(root):
            missed.append((kind, path))
        # Readers ignore files that are added beside the versions.
        is_read = path.is_relative_to(current) or (path.name == "CURRENT" and kind != "add")
        if number % OPENED_EVERY == 0 and is_read:
            with pytest.raises(ArtifactError):
                Retriever.open(root, encoder=encoder)
        repair()
    assert missed == []
    assert verify(root) == []
