"""An index that carries its encoder in 8 bits, too, is opened, asked and served with each engine that reads it."""

import json
import pickle
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.service.running import serving
from tests.tiny_models import save_encoder
from udr import Client, Retriever
from udr.cli import main
from udr.errors import ConfigError
from udr.models import OnnxEncoder, SentenceEncoder, engine_of

ENGINES = [
    "onnx",
    "onnx-int8",
    pytest.param("openvino", marks=pytest.mark.skipif(not find_spec("openvino"), reason="not installed")),
]
QUERIES = ["Who owns the boat?", "Where is the oldest bridge of the valley?", "What time does the ferry leave?"]


@pytest.fixture(scope="module")
def index(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index as the command builds it for 8 bits."""
    folder = tmp_path_factory.mktemp("engines")
    command = ["index", "build", str(collection), "--out", str(folder / "index"), "--device", "cpu"]
    assert main([*command, "--model", str(save_encoder(folder / "model")), "--engine", "onnx-int8"]) == 0
    return folder / "index"


def engine(retriever: Retriever) -> str:
    """The engine that encodes a retriever's queries."""
    assert isinstance(retriever.encoder, SentenceEncoder | OnnxEncoder)
    return engine_of(retriever.encoder)


def similarities(source: "Client | Retriever") -> list[list[tuple[str, float]]]:
    """The ids and similarities that a source returns for each query."""
    return [[(item.id, item.similarity) for item in source.retrieve("questions", query, k=5)] for query in QUERIES]


@pytest.mark.parametrize("name", ENGINES)
def test_each_engine_serves_what_the_retriever_finds_with_it(
    index: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Retriever.open(index, engine="onnx") as retriever:
        exact = similarities(retriever)
    with Retriever.open(index, engine=name) as retriever, pickle.loads(pickle.dumps(retriever)) as again:
        expected = similarities(retriever)
        assert engine(retriever) == engine(again) == name
        assert similarities(again) == expected
    # OpenVINO computes in float32 on processors without bfloat16.
    assert name == "openvino" or (expected == exact) == (name == "onnx")
    for found, true in zip(expected, exact, strict=True):
        assert [number for _, number in found] == pytest.approx([number for _, number in true], abs=0.1)

    with serving(str(index), engine=name) as (_, address), Client(address) as client:
        assert client.info()["engine"] == name
        assert similarities(client) == expected

    capsys.readouterr()
    assert (
        main(["retrieve", str(index), "--task", "questions", QUERIES[0], "--k", "5", "--engine", name, "--json"]) == 0
    )
    answer = json.loads(capsys.readouterr().out)
    assert [(item["id"], item["similarity"]) for item in answer["demonstrations"]] == expected[0]


def test_torch_encodes_on_request_although_the_index_carries_the_encoder(index: Path) -> None:
    with Retriever.open(index, device="cpu", engine="torch") as retriever:
        assert engine(retriever) == "torch"


def test_an_engine_that_does_not_exist_is_refused_by_name(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r"^engine must be one of torch, .*, openvino; found 'onnx-int4'$"):
        Retriever.open(index, engine="onnx-int4")
    assert main(["retrieve", str(index), "--task", "questions", "Who?", "--engine", "onnx-int4"]) == 2
    assert "error: --engine must be one of torch, " in capsys.readouterr().err
    assert main(["serve", str(index), "--engine", "onnx-int4"]) == 2
    assert "error: setting engine (--engine or UDR_ENGINE): must be 'torch', " in capsys.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("--engine", "onnx"), ("--device", "cpu")])
def test_a_service_has_its_own_engine_and_device(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["retrieve", "--url", "http://127.0.0.1:1", "--task", "questions", "Who?", option, value]) == 2
    assert f"omit {option} with --url, since the service has its own; found '{value}'" in capsys.readouterr().err
