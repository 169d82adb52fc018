"""Encodes with ONNX Runtime or OpenVINO, from the files of an exported encoder; nothing here needs torch."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import cast

import numpy as np

from udr.errors import ModelError, optional_import, reason
from udr.models.encoder import Encoder
from udr.models.hub import PACKAGE
from udr.models.onnx.description import (
    EXACT,
    GRAPH,
    INT8,
    INT8_GRAPH,
    ROLES,
    TOKENIZER,
    Description,
    Runtime,
    folder_of,
)
from udr.models.onnx.graph import Graph
from udr.models.probe_texts import PROBES, agreement
from udr.models.query_tokenizer import CPU_PADDING, QueryTokenizer, Tokens
from udr.search import Vectors
from udr.types import Json, Role

with optional_import("onnxruntime", "onnx"):
    import onnxruntime

_LOG = logging.getLogger(__name__)

LEAST: dict[Runtime, float] = {"onnx": 0.9999, "onnx-int8": 0.9, "openvino": 0.99}
"""The smallest accepted agreement with torch. Reordered float32 arithmetic stays above 0.999999; OpenVINO computes in
bfloat16 on processors that have it; 8 bits give up more, and only a broken graph falls below."""

_SLOWER = ["SkipLayerNormFusion"]
"""Disabled optimisations: on a CPU, this fusion makes a text 9 % slower."""

_BATCH = 8
"""The largest batch of one thread; larger ones gain nothing."""


class OnnxEncoder:
    """Encodes texts on the CPU, from an export.

    It has the fingerprint of the model that was exported, since the vectors are equal up to rounding, or to the
    runtime's precision. Demonstrations are always encoded in float32 by ONNX Runtime, as an index holds them.

    Args:
        folder: an export, as ``udr.models.onnx.description`` says.
        name: the model's name.
        description: the export's.
        num_threads: threads that encode.
        runtime: what computes the vectors of queries.

    Raises:
        ModelError: a file is missing, or is not what the description says.
        MissingExtraError: the runtime is not installed.
    """

    def __init__(
        self, folder: Path, name: str, description: Description, num_threads: int, runtime: Runtime = EXACT
    ) -> None:
        self.name, self.fingerprint = name, description.fingerprint
        self.dimension, self.metric, self.runtime = description.dimension, description.metric, runtime
        self._folder, self._prompts, self._num_threads = folder, description.prompts, num_threads
        self._graphs, self._tokenizers = dict[Path, Graph](), dict[tuple[Path, str], QueryTokenizer]()
        # With another runtime, the graph of demonstrations takes memory for what a service seldom does.
        self._towers = {role: self._open(role) for role in (ROLES if runtime == EXACT else ROLES[:1])}
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="udr-onnx")

    @classmethod
    def open(cls, folder: Path, name: str, num_threads: int, runtime: Runtime = EXACT) -> "OnnxEncoder":
        """Open an export; errors as the constructor."""
        _LOG.info("loading %s...", name.removeprefix(PACKAGE))
        return cls(folder, name, Description.read(folder), num_threads, runtime)

    def agreement_with(self, encoder: Encoder) -> float:
        """Return the agreement with another encoder on the probe texts, of the worst vector of both roles.

        Raises:
            ModelError: it is below ``LEAST``.
        """
        least = min(
            agreement(encoder.encode_queries(PROBES), self.encode_queries(PROBES)),
            agreement(encoder.encode_demonstrations(PROBES), self.encode_demonstrations(PROBES)),
        )
        if not least >= LEAST[self.runtime]:
            what = "ONNX Runtime" if self.runtime == EXACT else f"the engine {self.runtime!r}"
            raise ModelError(f"model {encoder.name!r} in {what} agrees with torch only to a cosine of {least:.4f}")
        return least

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """See ``Encoder.encode_queries``."""
        return self._encode("query", texts)

    def encode_demonstrations(self, texts: Sequence[str]) -> Vectors:
        """See ``Encoder.encode_demonstrations``."""
        return self._encode("demonstration", texts)

    def _open(self, role: Role) -> tuple[Graph, QueryTokenizer]:
        folder, runtime = folder_of(self._folder, role), self.runtime if role == "query" else EXACT
        path = folder / (INT8_GRAPH if runtime == INT8 else GRAPH)
        if path not in self._graphs:
            self._graphs[path] = graph_opener(runtime)(path, self._num_threads)
            self._graphs[path].check(path, self.dimension)
        graph, key = self._graphs[path], (folder / TOKENIZER, self._prompts[role])
        if key not in self._tokenizers:
            self._tokenizers[key] = QueryTokenizer.open(*key, graph.inputs)
        return graph, self._tokenizers[key]

    def _encode(self, role: Role, texts: Sequence[str]) -> Vectors:
        if role not in self._towers:
            self._towers[role] = self._open(role)
        graph, tokenizer = self._towers[role]
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)

        def compute(run: Callable[[Tokens], Vectors], positions: Sequence[int], tokens: Tokens) -> None:
            vectors[positions] = run(tokens)

        if len(texts) <= self._num_threads:
            for positions, tokens in tokenizer.batches(texts, _BATCH, CPU_PADDING):
                compute(graph.shared, positions, tokens)
        else:
            batches = tokenizer.batches(texts, _BATCH, CPU_PADDING, self._num_threads)
            for future in [self._threads.submit(compute, graph.single, *batch) for batch in batches]:
                future.result()
        return vectors


def graph_opener(runtime: Runtime) -> Callable[[Path, int], Graph]:
    """Return what opens a graph's file for a number of threads.

    Raises:
        MissingExtraError: the runtime is not installed.
    """
    if runtime == "openvino":
        # An extra.
        from udr.models.onnx.openvino import open_graph

        return open_graph
    return _open_graph


def _open_graph(path: Path, num_threads: int) -> Graph:
    """Open a graph in ONNX Runtime."""
    try:
        single = _session(path, 1)
    except Exception as error:
        # onnxruntime's errors have no common base.
        raise ModelError(f"{path}: onnxruntime cannot open it: {reason(error)}") from error
    inputs = [node.name for node in single.get_inputs()]

    # Opened when it is first needed: it starts threads, which a fork of this process would not have.
    shared = cache(lambda: _session(path, num_threads) if num_threads > 1 else single)

    def run(session: onnxruntime.InferenceSession, tokens: Tokens) -> Vectors:
        (vectors,) = session.run(None, {name: tokens[name] for name in inputs})
        return cast("Vectors", vectors)

    shapes = [node.shape for node in single.get_outputs()]
    return Graph(lambda tokens: run(single, tokens), lambda tokens: run(shared(), tokens), inputs, shapes)


@cache
def _share_memory() -> None:
    """Let all sessions of the process take their memory from one pool, rather than keep a pool each."""
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, None)


def _session(path: Path, num_threads: int) -> onnxruntime.InferenceSession:
    _share_memory()
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.intra_op_num_threads, options.inter_op_num_threads = num_threads, 1
    # Spinning threads are faster, but must stop when the text is done.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # It would keep a memory pattern for every batch shape, without bound.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOWER)


def onnxruntime_build() -> dict[str, Json]:
    """Return ONNX Runtime's ``version`` and the ``providers`` that it can compute with."""
    return {"version": onnxruntime.__version__, "providers": onnxruntime.get_available_providers()}
