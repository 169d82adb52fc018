"""Where versions come from: what is loaded before a fork is used after it, unless it has changed."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from udr.models import PROBES, OnnxEncoder
from udr.store import ENCODER, exported_encoder, open_version
from udr_service import Settings
from udr_service.observability import Metrics
from udr_service.serving import IndexSource


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[OnnxEncoder | None]:
    """Every export that a source opens from now on."""
    opened: list[OnnxEncoder | None] = []

    def keep(*arguments: object) -> OnnxEncoder | None:
        opened.append(exported_encoder(*arguments))  # type: ignore[arg-type]
        return opened[-1]

    monkeypatch.setattr("udr_service.serving.index_source.exported_encoder", keep)
    return opened


def test_what_is_loaded_before_a_fork_encodes_after_it(tiny: Path, opened: list[OnnxEncoder | None]) -> None:
    source = IndexSource(tiny, Settings(device="cpu"))
    source.preload()
    for _ in range(2):
        active = source.load(Metrics([]))
        assert active.engine == "onnx" and len(opened) == 1 and opened[0] is not None
        with active.retriever as retriever:
            np.testing.assert_array_equal(retriever.encode(PROBES), opened[0].encode_queries(PROBES))


def test_weights_that_were_written_to_since_are_opened_again(
    tiny: Path, tmp_path: Path, opened: list[OnnxEncoder | None]
) -> None:
    index = Path(shutil.copytree(tiny, tmp_path / "index"))
    source = IndexSource(index, Settings(device="cpu"))
    source.preload()
    graph = open_version(index).path / ENCODER / "query/graph.onnx"
    graph.write_bytes(graph.read_bytes())
    for _ in range(2):
        source.load(Metrics([])).retriever.close()
        assert len(opened) == 2


def test_the_tokenizer_of_an_index_has_a_name_that_the_next_version_has_too(tiny: Path) -> None:
    active = IndexSource(tiny, Settings(device="cpu")).load(Metrics([]))
    with active.retriever as retriever:
        assert Path(retriever.tokenizer).is_relative_to(tiny)
        name = active.name_of(active.tokenizer)
        assert name == open_version(tiny).manifest.encoder.name and active.counter(name) is active.tokenizer


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_engines_that_start_threads_are_not_loaded_before_a_fork(
    tiny: Path, opened: list[OnnxEncoder | None], engine: str
) -> None:
    IndexSource(tiny, Settings(device="cpu", engine=engine)).preload()  # type: ignore[arg-type]
    assert opened == []
