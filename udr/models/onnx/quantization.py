"""Quantises an exported graph: weights and activations of its matrix products in 8 bits."""

from pathlib import Path

import onnx
from onnxruntime import quantization

# ONNX Runtime would advise on the root logger to prepare the graph; its own session does so when the graph is opened.
_PREPARED = {"onnx.quant.pre_process": "onnxruntime.quant"}


def quantise(graph: Path, quantised: Path) -> None:
    """Write the graph of a file with products in 8 bits, in a file of its own.

    Weights get a scale for each column, in advance; activations one for each batch, when it is computed. Embeddings,
    normalisation and the products of attention stay in float32.

    Raises:
        Exception: of any kind, if the graph cannot be read, quantised or written.
    """
    model = onnx.load(graph)
    onnx.helper.set_model_props(model, _PREPARED)
    quantization.quantize_dynamic(
        model,
        quantised,
        per_channel=True,
        op_types_to_quantize=["MatMul"],
        weight_type=quantization.QuantType.QInt8,
    )
