"""OpenVINO, which reads the same graph and computes in the precision that suits the processor: the only adapter."""

import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from udr.errors import ModelError, optional_import, reason
from udr.models.onnx.graph import Graph
from udr.models.query_tokenizer import Tokens
from udr.search import Vectors

# Or else the import of openvino would report itself to Google Analytics, which no variable prevents. Where this package
# cannot be imported, openvino takes a stub.
if "openvino_telemetry" not in sys.modules:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

with optional_import("openvino", "openvino"):
    import openvino


def open_graph(path: Path, num_threads: int) -> Graph:
    """Open a graph in OpenVINO.

    Raises:
        ModelError: OpenVINO cannot read the file, or compute the graph.
    """
    try:
        # As many streams as threads: each request that comes meanwhile has a thread of its own.
        single = _compiled(path, num_threads, num_threads)
        shared = _compiled(path, num_threads, 1) if num_threads > 1 else single
    except RuntimeError as error:
        raise ModelError(f"{path}: openvino cannot open it: {reason(error)}") from error
    inputs = [node.get_any_name() for node in single.inputs]
    shapes = [[size.get_length() if size.is_static else None for size in node.partial_shape] for node in single.outputs]
    return Graph(_runner(single, inputs), _runner(shared, inputs), inputs, shapes)


@cache
def _core() -> "openvino.Core":
    return openvino.Core()


def _compiled(path: Path, num_threads: int, streams: int) -> "openvino.CompiledModel":
    # Pinned threads of several processes would share a core while others idle.
    options = {"INFERENCE_NUM_THREADS": num_threads, "NUM_STREAMS": streams, "ENABLE_CPU_PINNING": False}
    return _core().compile_model(str(path), "CPU", options)


def _runner(model: "openvino.CompiledModel", inputs: list[str]) -> Callable[[Tokens], Vectors]:
    # A request is not safe to share between threads.
    local = threading.local()

    def run(tokens: Tokens) -> Vectors:
        if not hasattr(local, "request"):
            local.request = model.create_infer_request()
        (vectors,) = local.request.infer({name: tokens[name] for name in inputs}).values()
        # A view of the request's memory, which the next call overwrites.
        return np.array(vectors, dtype=np.float32)

    return run
