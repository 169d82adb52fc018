"""Fixtures for the tests of several packages."""

import gc
import importlib
import logging
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

from tests.fakes import HashEncoder, write_collection
from udr.retrieval import Retriever
from udr_index.build import BuildConfig, build

# No test uses the network. A fixture would be too late: huggingface_hub reads both when it is imported.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
# Each client that is opened reads the certificates that it trusts: one, in place of all in the world.
os.environ["SSL_CERT_FILE"] = str(Path(__file__).parent / "fixtures/tls/first.pem")

# A time limit per example fails on a busy machine.
settings.register_profile("udr", deadline=None)
settings.load_profile("udr")


@pytest.fixture
def load_benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a file of ``benchmarks`` or ``benchmarks/gpu`` as if it were run; all are forgotten after the test."""
    folder = Path(__file__).resolve().parents[1] / "benchmarks"
    for each in (folder, folder / "gpu"):
        monkeypatch.syspath_prepend(str(each))
    yield importlib.import_module
    for name, module in list(sys.modules.items()):
        # Of thousands of modules: as paths, they would take a quarter of a second.
        if (getattr(module, "__file__", None) or "").startswith(f"{folder}{os.sep}"):
            del sys.modules[name]


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small collection; see ``write_collection``. Do not write to it."""
    return write_collection(tmp_path_factory.mktemp("collection"))


@pytest.fixture(scope="session")
def index(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection's index by ``HashEncoder()``. Do not write to it."""
    out = tmp_path_factory.mktemp("index") / "out"
    build(BuildConfig(tasks=collection, out=out, bm25=False), HashEncoder())
    return out


@pytest.fixture
def copy(index: Path, tmp_path: Path) -> Path:
    """A copy of the index that a test may change."""
    # Services of other tests count the use of the original.
    return Path(shutil.copytree(index, tmp_path / "index", ignore=shutil.ignore_patterns("live")))


@pytest.fixture
def encoder() -> HashEncoder:
    """A new encoder."""
    return HashEncoder()


@pytest.fixture
def retriever(index: Path, encoder: HashEncoder) -> Iterator[Retriever]:
    """The index, opened with ``encoder``."""
    with Retriever.open(index, encoder=encoder) as opened:
        yield opened


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of an S3 server of moto."""
    pytest.importorskip("s3fs", reason="needs the extra remote")
    server_module = pytest.importorskip("moto.server", reason="needs moto[server]")
    variables = {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**variables, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
            patch.setenv(name, value)
        import fsspec

        # A name of its own: what is known of a URL holds the address of its server.
        name = f"bucket-{port}"
        fsspec.filesystem("s3").makedirs(name, exist_ok=True)
        yield f"s3://{name}"
        fsspec.filesystem("s3").clear_instance_cache()
    server.stop()


@pytest.fixture(autouse=True)
def logging_restored() -> Iterator[None]:
    """Undo what commands do to logging, or later tests would read lines that they did not ask for."""
    loggers = [logging.getLogger(name) for name in (None, "udr", "udr_service")]
    handlers, levels = loggers[0].handlers[:], [logger.level for logger in loggers]
    yield
    loggers[0].handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Keep bytes out of the tests' names: compressed bytes can differ in each process, and pytest-xdist then stops."""
    return argname if isinstance(val, bytes) else None


def pytest_sessionstart() -> None:
    """Look for no garbage while the tests are imported; see ``pytest_collection_finish``."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Spare the search for garbage what is imported by now: a training searches several times, for a second each."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what this machine could not test, and why: a line a reason, in place of pytest's line a test."""
    skipped = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple)
    )
    for reason, count in sorted(skipped.items()):
        terminalreporter.write_line(f"skipped {count}: {reason}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that need CUDA on machines without it."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="needs CUDA"))
