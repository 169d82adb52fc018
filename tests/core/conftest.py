"""Fixtures of the core's tests."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copy(index: Path, tmp_path: Path) -> Path:
    """A copy of the index that a test may spoil."""
    return Path(shutil.copytree(index, tmp_path / "index"))
