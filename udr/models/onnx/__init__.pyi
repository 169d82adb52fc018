from . import export as export
from .description import (
    COUNTER as COUNTER, DESCRIPTION as DESCRIPTION, Description as Description, EXACT as EXACT, INT8 as INT8,
    INT8_GRAPH as INT8_GRAPH, RUNTIMES as RUNTIMES, Runtime as Runtime, VERSION as VERSION,
)
from .encoder import (
    LEAST as LEAST, OnnxEncoder as OnnxEncoder, graph_opener as graph_opener, onnxruntime_build as onnxruntime_build,
)
from .export import exported as exported, onnx_encoder as onnx_encoder
