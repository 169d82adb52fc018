"""A place where pages run."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.documentation.pages import Place, write_tickets


@pytest.fixture(scope="session")
def tiny_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with packages of tiny models, named as the default ones."""
    return Place.models(tmp_path_factory.mktemp("packages"))


@pytest.fixture
def place(tiny_packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A folder with ``tickets.csv``, in which commands run, and an empty home."""
    monkeypatch.syspath_prepend(tiny_packages)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    # Exporting the encoder takes seconds, so the first page does it for all.
    monkeypatch.setenv("UDR_CACHE", str(tiny_packages / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_tickets(Path("tickets.csv"))
    with ExitStack() as services:
        place = Place(tmp_path / "here", services)
        services.callback(place.close)
        yield place
