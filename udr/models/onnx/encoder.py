"""Encodes with ONNX Runtime, from the files of an exported encoder; nothing here needs torch."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from udr.errors import ModelError, optional_import, reason
from udr.models.encoder import Encoder
from udr.models.onnx.description import GRAPH, ROLES, TOKENIZER, Description, folder_of
from udr.models.probe_texts import PROBES, agreement
from udr.models.query_tokenizer import CPU_PADDING, QueryTokenizer, Tokens
from udr.search import Vectors
from udr.types import Role

with optional_import("onnxruntime", "onnx"):
    import onnxruntime

LEAST = 0.9999
"""The smallest accepted agreement with torch; reordered float32 arithmetic stays above 0.999999."""

_SLOWER = ["SkipLayerNormFusion"]
"""Disabled optimisations: on a CPU, this fusion makes a text 9 % slower."""

_BATCH = 8
"""The largest batch of one thread; larger ones gain nothing."""


class OnnxEncoder:
    """Encodes texts with ONNX Runtime on the CPU.

    It has the fingerprint of the model that was exported, since the vectors are equal up to rounding.

    Args:
        folder: an export, as ``udr.models.onnx.description`` says.
        name: the model's name.
        description: the export's.
        num_threads: threads that encode.

    Raises:
        ModelError: a file is missing, or is not what the description says.
    """

    def __init__(self, folder: Path, name: str, description: Description, num_threads: int) -> None:
        self.name, self.fingerprint = name, description.fingerprint
        self.dimension, self.metric = description.dimension, description.metric
        self._num_threads = num_threads
        graphs = {
            path: _Graph.open(path, self.dimension, num_threads) for path in {folder_of(folder, r) for r in ROLES}
        }
        self._graphs = {role: graphs[folder_of(folder, role)] for role in ROLES}
        self._tokenizers = {
            role: QueryTokenizer.open(folder_of(folder, role) / TOKENIZER, description.prompts[role], graph.inputs)
            for role, graph in self._graphs.items()
        }
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="udr-onnx")

    @classmethod
    def open(cls, folder: Path, name: str, num_threads: int) -> "OnnxEncoder":
        """Open an export; errors as the constructor."""
        return cls(folder, name, Description.read(folder), num_threads)

    def agreement_with(self, encoder: Encoder) -> float:
        """Return the agreement with the exported model on the probe texts, of the worst vector of both roles.

        Raises:
            ModelError: it is below ``LEAST``.
        """
        least = min(
            agreement(encoder.encode_queries(PROBES), self.encode_queries(PROBES)),
            agreement(encoder.encode_demonstrations(PROBES), self.encode_demonstrations(PROBES)),
        )
        if not least >= LEAST:
            raise ModelError(
                f"model {encoder.name!r} in ONNX Runtime agrees with torch only to a cosine of {least:.4f}"
            )
        return least

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """See ``Encoder.encode_queries``."""
        return self._encode("query", texts)

    def encode_demonstrations(self, texts: Sequence[str]) -> Vectors:
        """See ``Encoder.encode_demonstrations``."""
        return self._encode("demonstration", texts)

    def _encode(self, role: Role, texts: Sequence[str]) -> Vectors:
        graph, tokenizer = self._graphs[role], self._tokenizers[role]
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)

        def compute(session: onnxruntime.InferenceSession, positions: Sequence[int], tokens: Tokens) -> None:
            (vectors[positions],) = session.run(None, {name: tokens[name] for name in graph.inputs})

        if len(texts) <= self._num_threads:
            for positions, tokens in tokenizer.batches(texts, _BATCH, CPU_PADDING):
                compute(graph.shared, positions, tokens)
        else:
            batches = tokenizer.batches(texts, _BATCH, CPU_PADDING, self._num_threads)
            for future in [self._threads.submit(compute, graph.single, *batch) for batch in batches]:
                future.result()
        return vectors


@dataclass(frozen=True, slots=True)
class _Graph:
    """A graph, open in two sessions.

    Threads that share a text wait for one another at every step of the model. A single text gains from that; for many
    texts, one thread per text is faster.
    """

    single: onnxruntime.InferenceSession
    shared: onnxruntime.InferenceSession
    inputs: list[str]

    @staticmethod
    def open(folder: Path, dimension: int, num_threads: int) -> "_Graph":
        """Open the graph in a role's folder, whose vectors have this dimension."""
        path = folder / GRAPH
        try:
            single = _session(path, 1)
            shared = _session(path, num_threads) if num_threads > 1 else single
        except Exception as error:
            # onnxruntime's errors have no common base.
            raise ModelError(f"{path}: onnxruntime cannot open it: {reason(error)}") from error
        shapes = [node.shape for node in single.get_outputs()]
        if len(shapes) != 1 or len(shapes[0]) != 2 or shapes[0][1] != dimension:
            raise ModelError(f"{path}: must return vectors of {dimension} numbers, found outputs of shapes {shapes}")
        return _Graph(single, shared, [node.name for node in single.get_inputs()])


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
