"""A thousand random damages to the files of an index: all are found, and none gets as far as a search."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes import HashEncoder
from udr.errors import ArtifactError
from udr.retrieval import Retriever
from udr.store import verify
from udr_index.build import BuildConfig, build

DAMAGES = 1000
OPENED_EVERY = 20


@pytest.fixture(scope="module")
def whole(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with every kind of file: two versions, a carried model, faiss and BM25 indexes, search settings."""
    model = tmp_path_factory.mktemp("model") / "encoder"
    (model / "1_Pooling").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "1_Pooling/config.json"):
        (model / name).write_text(f"{name} of an encoder", "utf-8")
    from udr.models import fingerprint

    encoder = HashEncoder(name=str(model))
    encoder.fingerprint = fingerprint(model)
    out = tmp_path_factory.mktemp("whole") / "out"
    for pool in (12, None):
        build(BuildConfig(tasks=collection, out=out, pool=pool, kind="IVF2,Flat", bm25=True), encoder)
    return out


def flip(path: Path, chance: random.Random) -> Callable[[], object]:
    data = path.read_bytes()
    place = chance.randrange(len(data))
    path.write_bytes(data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :])
    return lambda: path.write_bytes(data)


def truncate(path: Path, chance: random.Random) -> Callable[[], object]:
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(len(data))])
    return lambda: path.write_bytes(data)


def delete(path: Path, chance: random.Random) -> Callable[[], object]:
    data = path.read_bytes()
    path.unlink()
    return lambda: path.write_bytes(data)


def add(path: Path, chance: random.Random) -> Callable[[], object]:
    new = path.with_name(f"{chance.randrange(10**6)}{path.suffix}")
    new.write_bytes(chance.randbytes(chance.randrange(40)))
    return new.unlink


def test_every_damage_is_found_and_none_is_searched(whole: Path) -> None:
    chance = random.Random(0)
    paths = sorted(path for path in whole.rglob("*") if path.is_file() and path.name != ".lock")
    assert {"CURRENT", "manifest.json", "search.json", "index.faiss", "vectors.npy", "model.safetensors"} <= {
        path.name for path in paths
    }
    assert verify(whole) == []
    missed = []
    for number in range(DAMAGES):
        path, damage = chance.choice(paths), chance.choice((flip, truncate, delete, add))
        repair = damage(path, chance)
        if not verify(whole):
            missed.append((damage.__name__, path))
        # The current version is read, or refused; a damaged one is never answered from.
        if number % OPENED_EVERY == 0 and (
            path.parts[: len(whole.parts) + 2] == _current(whole) or path.name == "CURRENT"
        ):
            with pytest.raises(ArtifactError):
                Retriever.open(whole, encoder=HashEncoder())
        repair()
    assert missed == []
    assert verify(whole) == []


def _current(root: Path) -> tuple[str, ...]:
    names = sorted((root / "versions").iterdir(), key=lambda path: path.stat().st_mtime)
    return names[-1].parts
