"""ONNX Runtime: a model exported once, and compared with torch on the probe texts at each load."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

from udr.errors import ModelError, optional_import, reason
from udr.files import first_to_finish
from udr.models.encoder import SentenceEncoder
from udr.models.hub import cache_folder
from udr.models.probe_texts import PROBES, agreement
from udr.models.query_tokenizer import CPU_PADDING, QueryTokenizer, Tokens
from udr.search import Vectors

with optional_import("onnxruntime", "onnx"):
    import onnxruntime
import torch

_LOG = logging.getLogger(__name__)

VERSION = 1
"""The version of ``_export``; a change invalidates cached exports."""

LEAST = 0.9999
"""The smallest accepted agreement with torch; reordered float32 arithmetic stays above 0.999999."""

_FILE = "queries.onnx"

_SLOWER = ["SkipLayerNormFusion"]
"""Disabled optimisations: on a CPU, this fusion makes a text 9 % slower."""

_BATCH = 8
"""The largest batch of one thread; larger ones gain nothing."""


class OnnxEncoder:
    """Encodes queries with ONNX Runtime on the CPU, and demonstrations with the original float32 torch model.

    It has the fingerprint of the original model, since the vectors are equal up to rounding.
    """

    def __init__(self, encoder: SentenceEncoder, tokenizer: QueryTokenizer, path: Path, num_threads: int) -> None:
        self.name, self.fingerprint = encoder.name, encoder.fingerprint
        self.dimension, self.metric = encoder.dimension, encoder.metric
        self._encoder, self._tokenizer, self._num_threads = encoder, tokenizer, num_threads
        # Threads that share a text wait for one another at every step of the model. A single text gains from that; for
        # many texts, one thread per text is faster.
        self._single = _session(path, 1)
        self._shared = _session(path, num_threads) if num_threads > 1 else self._single
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="udr-onnx")
        self._inputs = [node.name for node in self._single.get_inputs()]

    @classmethod
    def of(cls, encoder: SentenceEncoder, num_threads: int) -> "OnnxEncoder":
        """Return an encoder's ONNX version; the first call exports it into ``cache_folder()``, which takes seconds.

        Raises:
            ModelError: the model cannot be exported, or the export disagrees with torch.
        """
        tokenizer = encoder.query_tokenizer
        if tokenizer is None:
            problem = "preprocesses queries beyond its tokenizer, and cannot be exported"
            raise ModelError(f"model {encoder.name!r} {problem}")
        path = _exported(encoder, tokenizer)
        try:
            exported = cls(encoder, tokenizer, path, num_threads)
        except Exception as error:
            # onnxruntime's errors have no common base.
            raise ModelError(
                f"{path}: onnxruntime cannot open it: {reason(error)}; delete its folder to export it again"
            ) from error
        least = agreement(encoder.encode_queries(PROBES), exported.encode_queries(PROBES))
        if not least >= LEAST:
            raise ModelError(
                f"model {encoder.name!r} in ONNX Runtime agrees with torch only to a cosine of {least:.4f}"
            )
        return exported

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """See ``Encoder.encode_queries``."""
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)

        def compute(session: onnxruntime.InferenceSession, positions: Sequence[int], tokens: Tokens) -> None:
            (vectors[positions],) = session.run(None, {name: tokens[name] for name in self._inputs})

        if len(texts) <= self._num_threads:
            for positions, tokens in self._tokenizer.batches(texts, _BATCH, CPU_PADDING):
                compute(self._shared, positions, tokens)
        else:
            batches = self._tokenizer.batches(texts, _BATCH, CPU_PADDING, self._num_threads)
            for future in [self._threads.submit(compute, self._single, *batch) for batch in batches]:
                future.result()
        return vectors

    def encode_demonstrations(self, texts: Sequence[str]) -> Vectors:
        """See ``Encoder.encode_demonstrations``."""
        return self._encoder.encode_demonstrations(texts)


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


def _exported(encoder: SentenceEncoder, tokenizer: QueryTokenizer) -> Path:
    folder = cache_folder() / "onnx" / f"{encoder.fingerprint}-{VERSION}"
    if folder.is_dir():
        return folder / _FILE
    _LOG.info("model %r: exporting to ONNX in %s", encoder.name, folder)
    try:
        with first_to_finish(folder) as staging:
            _export(encoder, tokenizer, staging / _FILE)
    except Exception as error:
        # Exporters raise many kinds of errors; the disk may be full or read-only.
        cause = reason(error.__cause__ or error)
        raise ModelError(f"model {encoder.name!r} cannot be exported to {folder}: {cause}") from error
    return folder / _FILE


class _Chain(torch.nn.Module):
    """The path from a query's tokens to its vector: transformer, pooling, further modules, normalisation."""

    def __init__(self, encoder: SentenceEncoder, tokenizer: QueryTokenizer) -> None:
        super().__init__()
        self.model, self._embed, self._tokenizer = encoder.model, encoder.embed, tokenizer

    def forward(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        return self._embed(features, self._tokenizer)


def _export(encoder: SentenceEncoder, tokenizer: QueryTokenizer, path: Path) -> None:
    # Two texts of different lengths, so that batch size and padding do not become constants of the graph.
    batch = tokenizer.batch(["one text", "and a longer one"])
    sample = {name: torch.from_numpy(rows) for name, rows in batch.items()}
    dynamic = {name: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for name in sample}
    with _quietly(), torch.no_grad():
        program = torch.onnx.export(
            _Chain(encoder, tokenizer).eval(),
            kwargs={"features": sample},
            dynamo=True,
            dynamic_shapes={"features": dynamic},
            input_names=list(sample),
            output_names=["vectors"],
            verbose=False,
        )
        assert program is not None
        program.save(path, external_data=True)


@contextmanager
def _quietly() -> Iterator[None]:
    """Hide the exporters' log messages and warnings."""
    logs = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
