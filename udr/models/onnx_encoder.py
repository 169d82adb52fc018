"""ONNX Runtime, in one file: a model from tokens to vectors, exported once and checked against torch at each load."""

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
"""Of what ``_export`` makes of a model; a change of it makes what is cached of no use."""

LEAST = 0.9999
"""The least agreement with torch, on each probe text; exact arithmetic in another order keeps above 0.999999."""

_FILE = "queries.onnx"

_SLOWER = ["SkipLayerNormFusion"]
"""What ONNX Runtime would do to a graph, and should not: on a CPU, with this fused, a text takes 9 % longer."""

_PIECE = 8
"""The most texts that one thread computes at once; more gain nothing."""


@dataclass(frozen=True, slots=True)
class _Sessions:
    """Two ways to use the cores: ``narrow`` computes on the thread that calls it, ``wide`` on all of them together.

    Threads that share a text wait for one another at every step of the model. A text alone gains by that; of many, a
    thread each loses nothing, not even where the event loop takes one of the cores for a while.
    """

    narrow: onnxruntime.InferenceSession
    wide: onnxruntime.InferenceSession

    @classmethod
    def open(cls, path: Path, num_threads: int) -> "_Sessions":
        narrow = _session(path, 1)
        return cls(narrow, _session(path, num_threads) if num_threads > 1 else narrow)


class OnnxEncoder:
    """Encodes queries by ONNX Runtime on the CPU, and demonstrations by the torch model it was made from.

    Attributes:
        name: the model's name, as it was asked for.
        fingerprint: the model's own; vectors are those of torch, up to rounding.
        dimension: the width of its vectors.
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
        """Return an encoder's counterpart; the first time it is exported, which takes some seconds.

        The export is kept; see ``udr.models.cache_folder``.

        Args:
            encoder: one in float32, on the CPU.
            num_threads: how many threads compute.

        Raises:
            ModelError: the model cannot be exported, or what was exported does not compute what torch does.
        """
        tokens = encoder.query_tokens
        if tokens is None:
            raise ModelError(f"model {encoder.name!r} does more to queries than its tokenizer, and cannot be exported")
        path = _exported(encoder, tokens)
        try:
            sessions = _Sessions.open(path, num_threads)
        except Exception as error:
            # The errors of onnxruntime have no other base.
            raise ModelError(f"{path}: onnxruntime cannot open it: {reason(error)}; delete its folder") from error
        found = cls(encoder, tokens, sessions, num_threads)
        least = agreement(encoder.encode_queries(PROBES), found.encode_queries(PROBES))
        if not least >= LEAST:
            raise ModelError(f"model {encoder.name!r} in ONNX Runtime agrees with torch to {least:.4f} only")
        return found

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of query texts, float32 [len(texts), dimension]."""
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)

        def compute(session: onnxruntime.InferenceSession, places: Sequence[int], tokens: Tokens) -> None:
            (vectors[places],) = session.run(None, {name: tokens[name] for name in self._read})

        if len(texts) <= self._num_threads:
            for places, tokens in self._tokens.batches(texts, _PIECE, CPU_PADDING):
                compute(self._sessions.wide, places, tokens)
        else:
            pieces = self._tokens.batches(texts, _PIECE, CPU_PADDING, self._num_threads)
            begun = [self._threads.submit(compute, self._sessions.narrow, *piece) for piece in pieces]
            for piece in begun:
                piece.result()
        return vectors

    def encode_demonstrations(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of demonstration texts, float32 [len(texts), dimension]."""
        return self._encoder.encode_demonstrations(texts)


def _session(path: Path, num_threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = num_threads, 1
    # Threads that wait for one another by spinning are quicker; when a text is done, they must leave the cores alone.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # A pattern is kept for every shape of a batch, and there is no end of them.
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
        # What an exporter meets in a model, it raises in a dozen ways; a disk may be full, a folder not ours.
        why = reason(error.__cause__ or error)
        raise ModelError(f"model {encoder.name!r} cannot be exported to {folder}: {why}") from error
    return folder / _FILE


class _Chain(torch.nn.Module):
    """All that lies between a query's tokens and its vector: transformer, pooling, what else the model has, the unit.

    Args:
        encoder: the encoder.
        tokens: how its queries are tokenised.
    """

    def __init__(self, encoder: SentenceEncoder, tokens: QueryTokens) -> None:
        super().__init__()
        self.model, self._embed, self._tokens = encoder.model, encoder.embed, tokens

    def forward(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        return self._embed(features, self._tokens)


def _export(encoder: SentenceEncoder, tokens: QueryTokens, path: Path) -> None:
    # Two texts of unlike length: what holds for one alone, or without padding, must not become part of the graph.
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
    """Keep what exporters say of their steps, and of packages that they do without, from the user."""
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
