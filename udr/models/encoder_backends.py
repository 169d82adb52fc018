"""Encoder backends: the engine that encodes queries."""

import logging
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from udr.errors import ConfigError, MissingExtraError, ModelError, reason
from udr.models.device import best_device, cpu_multiplies, num_threads
from udr.models.encoder import DType, SentenceEncoder
from udr.models.onnx import RUNTIMES, Runtime
from udr.models.probe_texts import PROBES

if TYPE_CHECKING:
    from udr.models.onnx import OnnxEncoder

_LOG = logging.getLogger(__name__)


class Engine(StrEnum):
    """An engine that encodes queries."""

    TORCH = "torch"
    TORCH_BF16 = "torch-bf16"
    TORCH_FP16 = "torch-fp16"
    ONNX = "onnx"
    ONNX_INT8 = "onnx-int8"
    OPENVINO = "openvino"


_DTYPES: dict[Engine, DType] = {Engine.TORCH: "float32", Engine.TORCH_BF16: "bfloat16", Engine.TORCH_FP16: "float16"}


def choose_engine(device: str, has_onnx: bool, cpu_bf16: bool) -> Engine:
    """Return the engine for queries, by device, installed packages and support for bfloat16."""
    kind = device.partition(":")[0]
    if kind == "cuda":
        # Every CUDA device has float16, which is eight times as precise as bfloat16; a model that overflows falls back.
        return Engine.TORCH_FP16
    if kind == "cpu" and has_onnx:
        return Engine.ONNX
    return Engine.TORCH_BF16 if kind == "cpu" and cpu_bf16 else Engine.TORCH


def check_engine(engine: str | None) -> None:
    """Raise ``ConfigError`` unless this is the name of an engine, or None."""
    if engine is not None and engine not in set(Engine):
        raise ConfigError(f"engine must be one of {', '.join(Engine)}; found {engine!r}")


def load_encoder(
    name: str | Path, device: str | None = None, engine: str | None = None
) -> "SentenceEncoder | OnnxEncoder":
    """Load a model to encode queries.

    If the engine cannot compute this model correctly, a warning is logged and torch in float32 is used.

    Args:
        name: a hub name, a path, or ``package:NAME``.
        device: ``cpu``, ``cuda``, ``cuda:1``, ...; None selects the best one.
        engine: one of ``Engine``; None uses ``choose_engine``.

    Raises:
        ConfigError: there is no such engine, or not for this device.
        MissingExtraError: the engine's package is not installed.
        ModelError: there is no such model, or it is not an encoder.
    """
    name = str(name)
    check_engine(engine)
    device = "cpu" if device is None and engine in RUNTIMES else best_device(device)
    if engine is None:
        engine = choose_engine(device, find_spec("onnxruntime") is not None, cpu_multiplies("bfloat16"))
    if engine in RUNTIMES and device != "cpu":
        raise ConfigError(f"engine {str(engine)!r} runs on the CPU, not on {device!r}; use another, or device 'cpu'")
    if device == "cpu":
        import torch

        torch.set_num_threads(num_threads())
    if engine in RUNTIMES:
        return _onnx(name, cast("Runtime", str(engine)))
    return _torch(name, device, _DTYPES[Engine(engine)])


def engine_of(encoder: "SentenceEncoder | OnnxEncoder") -> Engine:
    """Return the engine that an encoder uses, which is torch after a fallback."""
    if isinstance(encoder, SentenceEncoder):
        return next(engine for engine, dtype in _DTYPES.items() if dtype == encoder.dtype)
    return Engine(encoder.runtime)


def _onnx(name: str, runtime: Runtime) -> "SentenceEncoder | OnnxEncoder":
    # onnxruntime is an extra, and openvino another.
    from udr.models.onnx import graph_opener, onnx_encoder

    graph_opener(runtime)
    encoder = SentenceEncoder.load(name, "cpu")
    try:
        return onnx_encoder(encoder, num_threads(), runtime)
    except (ModelError, MissingExtraError) as error:
        _LOG.warning("%s; encoding queries with torch", error)
        return encoder


def _torch(name: str, device: str, dtype: DType) -> SentenceEncoder:
    encoder = SentenceEncoder.load(name, device, dtype=dtype)
    if dtype == "float32" or (problem := _problem(encoder)) is None:
        return encoder
    _LOG.warning("model %r in %s %s; encoding queries in float32", name, dtype, problem)
    return SentenceEncoder.load(name, device)


def _problem(encoder: SentenceEncoder) -> str | None:
    """Return why an encoder fails in half precision, or None: some models overflow, or lack kernels."""
    try:
        vectors = encoder.encode_queries(PROBES)
    except RuntimeError as error:
        return f"cannot compute: {reason(error)}"
    return None if np.isfinite(vectors).all() else "gives numbers that are not finite"
