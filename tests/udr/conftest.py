"""An index that the tests of several subpackages open by its path alone."""

import shutil
from pathlib import Path

import pytest

from tests.tiny_models import save_encoder
from udr_index.build import BuildConfig, build


@pytest.fixture(scope="session")
def real_index(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection's index, which contains its encoder, a tiny one in the real format. Do not write to it."""
    folder = tmp_path_factory.mktemp("real")
    save_encoder(folder / "model")
    build(BuildConfig(tasks=collection, out=folder / "index", model=str(folder / "model"), device="cpu"))
    shutil.rmtree(folder / "model")
    return folder / "index"
