"""The choice of the engine that encodes queries, and the fallback to float32."""

import logging
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny_models import save_encoder
from udr.errors import ConfigError, MissingExtraError, ModelError
from udr.installation import install_extra
from udr.models import (
    PROBES,
    Engine,
    OnnxEncoder,
    Runtime,
    SentenceEncoder,
    agreement,
    cache_folder,
    choose_engine,
    engine_of,
    exported,
    load_encoder,
    num_threads,
    onnx,
)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Restore torch's number of threads, which loading sets."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("device", "has_onnx", "cpu_bf16", "engine"),
    [
        ("cuda", False, False, Engine.TORCH_FP16),
        ("cuda:1", True, True, Engine.TORCH_FP16),
        *(("cpu", True, bf16, Engine.ONNX) for bf16 in (False, True)),
        ("cpu", False, True, Engine.TORCH_BF16),
        ("cpu", False, False, Engine.TORCH),
        ("mps", True, True, Engine.TORCH),
    ],
)
def test_the_engine_depends_on_device_packages_and_processor(
    device: str, has_onnx: bool, cpu_bf16: bool, engine: Engine
) -> None:
    assert choose_engine(device, has_onnx, cpu_bf16) is engine


@pytest.mark.parametrize(("bf16", "engine"), [(True, Engine.TORCH_BF16), (False, Engine.TORCH)])
def test_without_onnxruntime_the_processor_decides(
    model: Path, monkeypatch: pytest.MonkeyPatch, bf16: bool, engine: Engine
) -> None:
    monkeypatch.setattr("udr.models.encoder_backends.find_spec", lambda name: None)
    monkeypatch.setattr("udr.models.encoder_backends.cpu_multiplies", lambda _: bf16)
    assert engine_of(load_encoder(str(model), "cpu")) is engine


@pytest.mark.parametrize(("engine", "least"), [("torch", 1), ("torch-bf16", 0.999), ("torch-fp16", 0.99999)])
def test_a_requested_engine_is_used_with_one_thread_per_core(
    model: Path, monkeypatch: pytest.MonkeyPatch, engine: str, least: float
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    encoder = load_encoder(str(model), "cpu", engine)
    assert engine_of(encoder) == engine and torch.get_num_threads() == 3
    expected = SentenceEncoder.load(str(model), "cpu").encode_queries(PROBES)
    assert agreement(expected, encoder.encode_queries(PROBES)) >= least


def test_onnx_is_exported_from_torch_in_float32(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exports = []

    def record(encoder: SentenceEncoder, threads: int, runtime: Runtime) -> OnnxEncoder:
        exports.append((encoder.dtype, encoder.model.device.type, threads))
        made = object.__new__(OnnxEncoder)
        made.runtime = runtime
        return made

    monkeypatch.setitem(vars(onnx), "onnx_encoder", record)

    assert engine_of(load_encoder(str(model), engine="onnx")) is Engine.ONNX
    assert exports == [("float32", "cpu", num_threads())]


@pytest.fixture(scope="module")
def exports(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache with a copy of the model's export, which is made once for the tests of all packages."""
    made, folder = exported(SentenceEncoder.load(str(model), "cpu")), tmp_path_factory.mktemp("exports")
    shutil.copytree(made, folder / made.relative_to(cache_folder()))
    return folder


@pytest.mark.parametrize(("engine", "least"), [("onnx-int8", 0.9), ("openvino", 0.99)])
def test_other_runtimes_of_an_export_are_used(
    model: Path, exports: Path, monkeypatch: pytest.MonkeyPatch, engine: str, least: float
) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    monkeypatch.setenv("UDR_CACHE", str(exports))
    encoder = load_encoder(str(model), None, engine)
    assert engine_of(encoder) == engine
    expected = SentenceEncoder.load(str(model), "cpu")
    queries, exact = encoder.encode_queries(PROBES), expected.encode_queries(PROBES)
    assert agreement(exact, queries) > least
    shown = expected.encode_demonstrations(PROBES)
    assert agreement(shown, encoder.encode_demonstrations(PROBES)) > 0.99999


def test_openvino_without_its_extra_is_an_error(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "udr.models.onnx.openvino", raising=False)
    with pytest.raises(
        MissingExtraError, match=f"openvino is not installed; run: {re.escape(install_extra('openvino'))}"
    ):
        load_encoder(str(model), "cpu", "openvino")


def test_torch_replaces_onnx_with_a_warning_if_the_export_fails(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_encoder: SentenceEncoder, _threads: int, _runtime: Runtime) -> OnnxEncoder:
        raise ModelError("model 'x' in ONNX Runtime agrees with torch only to 0.5")

    monkeypatch.setitem(vars(onnx), "onnx_encoder", fail)
    caplog.set_level(logging.WARNING, "udr")

    assert engine_of(load_encoder(str(model), "cpu", "onnx")) is Engine.TORCH
    assert caplog.messages == ["model 'x' in ONNX Runtime agrees with torch only to 0.5; encoding queries with torch"]


def test_float32_replaces_float16_if_numbers_overflow(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = save_encoder(tmp_path / "large")
    weights = load_file(folder / "model.safetensors")
    name = "embeddings.LayerNorm.weight"
    save_file({**weights, name: 1e6 * weights[name]}, folder / "model.safetensors", {"format": "pt"})
    caplog.set_level(logging.WARNING, "udr")
    encoder = load_encoder(str(folder), "cpu", "torch-fp16")
    assert engine_of(encoder) is Engine.TORCH
    assert np.isfinite(encoder.encode_queries(PROBES)).all()
    (warning,) = caplog.messages
    assert warning.endswith("in float16 gives numbers that are not finite; encoding queries in float32")
    assert engine_of(load_encoder(str(folder), "cpu", "torch-bf16")) is Engine.TORCH_BF16


def test_float32_replaces_float16_if_a_layer_does_not_support_it(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def encode(encoder: SentenceEncoder, texts: list[str]) -> np.ndarray:
        raise RuntimeError('"layer" not implemented for Half\nand more')

    monkeypatch.setattr(SentenceEncoder, "encode_queries", encode)

    assert engine_of(load_encoder(str(model), "cpu", "torch-fp16")) is Engine.TORCH
    assert 'in float16 cannot compute: "layer" not implemented for Half; encoding' in caplog.text


@pytest.mark.parametrize(
    ("device", "engine", "message"),
    [
        (
            "cpu",
            "tensorrt",
            "engine must be one of torch, torch-bf16, torch-fp16, onnx, onnx-int8, openvino; found 'tensorrt'",
        ),
        ("cuda:0", "onnx", "engine 'onnx' runs on the CPU, not on 'cuda:0'"),
        ("cuda:0", "onnx-int8", "engine 'onnx-int8' runs on the CPU, not on 'cuda:0'"),
    ],
)
def test_an_invalid_engine_is_an_error_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, device: str, engine: str, message: str
) -> None:
    monkeypatch.setattr("udr.models.encoder_backends.best_device", lambda wanted: wanted)
    with pytest.raises(ConfigError, match=message):
        load_encoder("/no/such/model", device, engine)


def test_onnx_without_its_extra_is_an_error(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(vars(onnx), "onnx_encoder", raising=False)
    for name in ("encoder", "export"):
        monkeypatch.delitem(sys.modules, f"udr.models.onnx.{name}", raising=False)
    with pytest.raises(
        MissingExtraError, match=f"onnxruntime is not installed; run: {re.escape(install_extra('onnx'))}"
    ):
        load_encoder(str(model), "cpu", "onnx")
