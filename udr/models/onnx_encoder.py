"""ONNX Runtime: a model exported once, and compared with torch on the probe texts at each load."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from udr.errors import MissingExtraError, ModelError, reason
from udr.files import first_to_finish
from udr.models.encoder import SentenceEncoder
from udr.models.hub import cache_folder
from udr.models.probe_texts import PROBES, agreement
from udr.models.query_tokenizer import CPU_PADDING, QueryTokens, Tokens
from udr.search import Vectors

try:
    import onnxruntime
except ImportError as error:
    raise MissingExtraError("onnxruntime", "onnx") from error
import torch

_LOG = logging.getLogger(__name__)

VERSION = 1
"""The version of ``_export``; a change invalidates cached exports."""

LEAST = 0.9999
"""The smallest accepted agreement with torch; reordered float32 arithmetic stays above 0.999999."""

_FILE = "queries.onnx"

_SLOWER = ["SkipLayerNormFusion"]
"""Optimisations that are disabled: on a CPU, this fusion makes a text 9 % slower."""

_PIECE = 8
"""The largest batch of one thread; larger ones gain nothing."""


@dataclass(frozen=True, slots=True)
class _Sessions:
    """Two sessions: ``narrow`` computes on the calling thread, ``wide`` on all threads together.

    Threads that share a text wait for one another at every step of the model. A single text gains from that; for many
    texts, one thread per text is faster.
    """

    narrow: onnxruntime.InferenceSession
    wide: onnxruntime.InferenceSession

    @classmethod
    def open(cls, path: Path, num_threads: int) -> "_Sessions":
        narrow = _session(path, 1)
        return cls(narrow, _session(path, num_threads) if num_threads > 1 else narrow)


class OnnxEncoder:
    """Encodes queries with ONNX Runtime on the CPU, and demonstrations with the original torch model.

    Attributes:
        name: the model's name, as requested.
        fingerprint: the original model's; the vectors are equal up to rounding.
        dimension: the dimension of its vectors.
        metric: how its vectors are compared.
    """

    def __init__(self, encoder: SentenceEncoder, tokens: QueryTokens, sessions: _Sessions, num_threads: int) -> None:
        self.name, self.fingerprint = encoder.name, encoder.fingerprint
        self.dimension, self.metric = encoder.dimension, encoder.metric
        self._encoder, self._tokens, self._sessions, self._num_threads = encoder, tokens, sessions, num_threads
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="udr-onnx")
        self._read = {given.name for given in sessions.narrow.get_inputs()}

    @classmethod
    def of(cls, encoder: SentenceEncoder, num_threads: int) -> "OnnxEncoder":
        """Return an encoder's ONNX version; the first call exports it into ``cache_folder()``, which takes seconds.

        Args:
            encoder: a float32 encoder on the CPU.
            num_threads: threads that compute.

        Raises:
            ModelError: the model cannot be exported, or the export disagrees with torch.
        """
        tokens = encoder.query_tokens
        if tokens is None:
            raise ModelError(
                f"model {encoder.name!r} preprocesses queries beyond its tokenizer, and cannot be exported"
            )
        path = _exported(encoder, tokens)
        try:
            sessions = _Sessions.open(path, num_threads)
        except Exception as error:
            # onnxruntime's errors have no common base.
            raise ModelError(f"{path}: onnxruntime cannot open it: {reason(error)}; delete its folder") from error
        exported = cls(encoder, tokens, sessions, num_threads)
        least = agreement(encoder.encode_queries(PROBES), exported.encode_queries(PROBES))
        if not least >= LEAST:
            raise ModelError(f"model {encoder.name!r} in ONNX Runtime agrees with torch only to {least:.4f}")
        return exported

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of query texts, float32 [len(texts), dimension]."""
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)

        def compute(session: onnxruntime.InferenceSession, positions: Sequence[int], tokens: Tokens) -> None:
            (vectors[positions],) = session.run(None, {name: tokens[name] for name in self._read})

        if len(texts) <= self._num_threads:
            for positions, tokens in self._tokens.batches(texts, _PIECE, CPU_PADDING):
                compute(self._sessions.wide, positions, tokens)
        else:
            pieces = self._tokens.batches(texts, _PIECE, CPU_PADDING, self._num_threads)
            futures = [self._threads.submit(compute, self._sessions.narrow, *piece) for piece in pieces]
            for future in futures:
                future.result()
        return vectors

    def encode_demonstrations(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of demonstration texts, float32 [len(texts), dimension]."""
        return self._encoder.encode_demonstrations(texts)


def _session(path: Path, num_threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = num_threads, 1
    # Spinning threads are faster, but must stop when the text is done.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # It would keep a memory pattern for every batch shape, without bound.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOWER)


def _exported(encoder: SentenceEncoder, tokens: QueryTokens) -> Path:
    folder = cache_folder() / "onnx" / f"{encoder.fingerprint}-{VERSION}"
    if folder.is_dir():
        return folder / _FILE
    _LOG.info("model %r: exporting to ONNX in %s", encoder.name, folder)
    try:
        with first_to_finish(folder) as staging:
            _export(encoder, tokens, staging / _FILE)
    except Exception as error:
        # Exporters raise many kinds of errors; the disk may be full or read-only.
        cause = reason(error.__cause__ or error)
        raise ModelError(f"model {encoder.name!r} cannot be exported to {folder}: {cause}") from error
    return folder / _FILE


class _Chain(torch.nn.Module):
    """The path from a query's tokens to its vector: transformer, pooling, further modules, normalisation."""

    def __init__(self, encoder: SentenceEncoder, tokens: QueryTokens) -> None:
        super().__init__()
        self.model, self._embed, self._tokens = encoder.model, encoder.embed, tokens

    def forward(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        return self._embed(features, self._tokens)


def _export(encoder: SentenceEncoder, tokens: QueryTokens, path: Path) -> None:
    # Two texts of different lengths, so that batch size and padding do not become constants of the graph.
    sample = {name: torch.from_numpy(rows) for name, rows in tokens.together(["one text", "and a longer one"]).items()}
    dynamic = {name: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for name in sample}
    with _quietly(), torch.no_grad():
        program = torch.onnx.export(
            _Chain(encoder, tokens).eval(),
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
