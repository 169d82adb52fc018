"""An index of three versions, and what tests look up in it."""

import os
import shutil
from pathlib import Path

import pytest

from tests.fakes import HashEncoder
from tests.index.builds import build_index, tree
from udr.retrieval import Retriever
from udr.store import verify
from udr_index.versions import list_versions

POOLS = (5, 10, 15)


@pytest.fixture(scope="session")
def original(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("versions") / "index"
    for day, pool in enumerate(POOLS, 1):
        built = build_index(collection, root, pool=pool)
        os.utime(built.path / "manifest.json", (86_400 * day, 86_400 * day))
    return root


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    """An index of three versions, built a day apart; the newest is current. Copying keeps the times of folders."""
    return Path(shutil.copytree(original, tmp_path / "index"))


@pytest.fixture
def names(root: Path) -> list[str]:
    """Their names, the oldest first."""
    return [info.name for info in reversed(list_versions(root))]


def versions_in(root: Path) -> set[str]:
    return {path.name for path in (root / "versions").iterdir()}


def used(root: Path) -> int:
    return sum(len(data) for data in tree(root).values())


def truncate(root: Path, name: str) -> None:
    path = root / "versions" / name / "demonstrations.sqlite"
    path.write_bytes(path.read_bytes()[:-1])


def is_intact(root: Path) -> bool:
    """Return whether the index has no damage, opens and answers."""
    with Retriever.open(root, encoder=HashEncoder()) as retriever:
        return verify(root) == [] and len(retriever.retrieve(scope="all", input="a fine day", k=8)) == 8


def write_leftovers(root: Path, version: str) -> list[str]:
    """Write what killed builds and a killed prune leave, and return the names, sorted."""
    folders = [f".building-{version}", f".building-{version}-reuse-{version}", f".pruned-{version}"]
    for name in folders:
        (root / name / "partitions" / "notes" / "shards").mkdir(parents=True)
        for number in range(2):
            (root / name / "partitions" / "notes" / "shards" / f"{number:06}.npy").write_bytes(b"shard")
    files = [".CURRENT.tmp", ".rows.sqlite.tmp", ".rows.sqlite.tmp.incoming"]
    for name in files:
        (root / name).write_bytes(b"half")
    assert verify(root) == []
    return sorted([*folders, *files])
