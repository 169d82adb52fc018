"""A tiny encoder that the tests of models share."""

from pathlib import Path

import pytest

from tests.tiny_models import save_encoder
from tests.udr.models.tiny_encoders import save_towers


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny encoder. Do not write to it."""
    return save_encoder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model with two towers and prompts. Do not write to it."""
    return save_towers(tmp_path_factory.mktemp("models") / "towers")
