"""Which engine encodes queries: the table, what cannot be had, and what gives way to float32."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny_models import save_encoder
from udr.errors import ConfigError, MissingExtraError, ModelError
from udr.models import (
    PROBES,
    Engine,
    OnnxEncoder,
    SentenceEncoder,
    agreement,
    choose,
    engine_of,
    load_encoder,
    num_threads,
)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Loading sets how many threads torch has; each test gives them back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.mark.parametrize(
    ("device", "has_onnx", "cpu_bf16", "engine"),
    [
        ("cuda", False, False, Engine.TORCH_FP16),
        ("cuda:1", True, True, Engine.TORCH_FP16),
        ("cpu", True, False, Engine.ONNX),
        ("cpu", True, True, Engine.ONNX),
        ("cpu", False, True, Engine.TORCH_BF16),
        ("cpu", False, False, Engine.TORCH),
        ("mps", True, True, Engine.TORCH),
    ],
)
def test_the_engine_is_chosen_by_the_table(device: str, has_onnx: bool, cpu_bf16: bool, engine: Engine) -> None:
    assert choose(device, has_onnx, cpu_bf16) is engine


@pytest.mark.parametrize(("bf16", "engine"), [(True, Engine.TORCH_BF16), (False, Engine.TORCH)])
def test_without_onnxruntime_the_processor_decides(
    model: Path, monkeypatch: pytest.MonkeyPatch, bf16: bool, engine: Engine
) -> None:
    monkeypatch.setattr("udr.models.encoder_backends.find_spec", lambda name: None)
    monkeypatch.setattr("udr.models.encoder_backends.cpu_has_bf16", lambda: bf16)

    assert engine_of(load_encoder(str(model), "cpu")) is engine


@pytest.mark.parametrize(("engine", "least"), [("torch", 1), ("torch-bf16", 0.999), ("torch-fp16", 0.99999)])
def test_an_engine_that_is_named_is_taken(model: Path, engine: str, least: float) -> None:
    encoder = load_encoder(str(model), "cpu", engine)

    assert engine_of(encoder) == engine
    expected = SentenceEncoder.load(str(model), "cpu").encode_queries(PROBES)
    assert agreement(expected, encoder.encode_queries(PROBES)) >= least


def test_onnx_is_made_from_torch_in_float32(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, str, int]] = []

    def of(encoder: SentenceEncoder, threads: int) -> OnnxEncoder:
        made.append((encoder.dtype, encoder.model.device.type, threads))
        return object.__new__(OnnxEncoder)

    monkeypatch.setattr(OnnxEncoder, "of", of)

    assert engine_of(load_encoder(str(model), engine="onnx")) is Engine.ONNX
    assert made == [("float32", "cpu", num_threads())]


def test_onnx_gives_way_to_torch_with_a_notice(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_encoder: SentenceEncoder, _threads: int) -> OnnxEncoder:
        raise ModelError("model 'x' in ONNX Runtime agrees with torch to 0.5 only")

    monkeypatch.setattr(OnnxEncoder, "of", refuse)

    with caplog.at_level(logging.WARNING, "udr"):
        encoder = load_encoder(str(model), "cpu", "onnx")

    assert engine_of(encoder) is Engine.TORCH
    assert caplog.messages == ["model 'x' in ONNX Runtime agrees with torch to 0.5 only; encoding queries with torch"]


def test_a_model_with_numbers_beyond_float16_gives_way_to_float32(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = save_encoder(tmp_path / "large")
    weights = load_file(folder / "model.safetensors")
    name = "embeddings.LayerNorm.weight"
    save_file({**weights, name: 1e6 * weights[name]}, folder / "model.safetensors", {"format": "pt"})

    with caplog.at_level(logging.WARNING, "udr"):
        encoder = load_encoder(str(folder), "cpu", "torch-fp16")

    assert engine_of(encoder) is Engine.TORCH
    assert np.isfinite(encoder.encode_queries(PROBES)).all()
    (notice,) = caplog.messages
    assert notice.endswith("in float16 gives numbers that are not finite; encoding queries in float32")
    assert engine_of(load_encoder(str(folder), "cpu", "torch-bf16")) is Engine.TORCH_BF16


def test_a_model_that_has_no_code_for_half_the_bits_gives_way_to_float32(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = SentenceEncoder.encode_queries

    def encode(encoder: SentenceEncoder, texts: list[str]) -> np.ndarray:
        if encoder.dtype != "float32":
            raise RuntimeError('"layer" not implemented for Half\nand more')
        return whole(encoder, texts)

    monkeypatch.setattr(SentenceEncoder, "encode_queries", encode)

    with caplog.at_level(logging.WARNING, "udr"):
        assert engine_of(load_encoder(str(model), "cpu", "torch-fp16")) is Engine.TORCH
    assert 'in float16 cannot compute: "layer" not implemented for Half; encoding' in caplog.text


def test_an_unknown_engine_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(ConfigError, match="engine must be one of torch, torch-bf16, torch-fp16, onnx; found 'tensorrt'"):
        load_encoder("/no/such/model", "cpu", "tensorrt")


def test_onnx_elsewhere_than_on_the_cpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("udr.models.encoder_backends.best_device", lambda wanted: wanted)

    with pytest.raises(ConfigError, match="engine 'onnx' runs on the CPU, not on 'cuda:0'"):
        load_encoder("/no/such/model", "cuda:0", "onnx")


def test_onnx_without_its_extra_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "udr.models.onnx_encoder")

    with pytest.raises(MissingExtraError, match=r"onnxruntime is not installed; run: pip install 'udr-icl\[onnx\]'"):
        load_encoder(str(model), "cpu", "onnx")


def test_torch_computes_on_as_many_threads_as_there_are_cores(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")

    load_encoder(str(model), "cpu", "torch")

    assert torch.get_num_threads() == num_threads() == 3
