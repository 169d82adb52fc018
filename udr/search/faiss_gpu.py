"""Faiss on GPUs. Each device has one worker thread: faiss' GPU resources are not thread-safe, not even to free."""

import logging
import re
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from queue import SimpleQueue
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from udr.errors import ConfigError, optional_import, reason
from udr.installation import install_extra
from udr.search.base import Proposals, Proposer, Vectors
from udr.search.faiss_cpu import add, proposer

with optional_import("faiss", "gpu"):
    import faiss

_LOG = logging.getLogger(__name__)
_Result = TypeVar("_Result")

MOST = 2048
"""The largest count that faiss proposes on a GPU, and without cuVS the largest ``nprobe``."""
MOST_OF_GRAPH = 512
"""The largest count that cuVS proposes from a graph."""
_WARP = 32
"""cuVS needs a multiple of this as the number of a graph search's candidates."""


class FaissGpu:
    """A GPU for faiss; ``name`` is its name in torch, ``library`` is faiss with GPU support."""

    def __init__(self, device: int, library: ModuleType | Any = faiss) -> None:  # noqa: ANN401
        self.name, self._device, self._faiss = f"cuda:{device}", device, library
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=f"udr-{self.name}")
        self._unused = SimpleQueue[list[Proposer]]()
        self._resources = self._do(library.StandardGpuResources)

    def flat(self, vectors: NDArray[np.floating], *, fp16: bool) -> Proposer:
        """Copy vectors to the device and return a proposer of exact search; ``ConfigError`` if they do not fit."""
        config = self._faiss.GpuIndexFlatConfig()
        config.device, config.useFloat16 = self._device, fp16

        def copy() -> Any:  # noqa: ANN401
            return add(self._faiss.GpuIndexFlatIP(self._resources, vectors.shape[1], config), vectors)

        return self._in_turn(proposer(self._do(copy, "faiss cannot place the vectors")))

    def index(self, index: Any, parameters: str, *, fp16: bool) -> tuple[Proposer, int]:  # noqa: ANN401
        """Copy an index to the device; return its proposer and limit; ``ConfigError`` if faiss does not support it."""
        if not self.supports(parameters):
            raise ConfigError(f"without cuVS, faiss searches at most {MOST} lists on {self.name}, found {parameters}")
        placed = self.to_device(index, fp16=fp16)
        graph = getattr(self._faiss, "GpuIndexCagra", None)
        if graph is not None and isinstance(placed, graph):
            return self._in_turn(self._graph_proposer(placed, parameters)), MOST_OF_GRAPH
        set_parameters = partial(self._faiss.GpuParameterSpace().set_index_parameters, placed, parameters)
        self._do(set_parameters, f"faiss does not take the search parameters {parameters!r}")
        return self._in_turn(proposer(placed)), MOST

    def supports(self, parameters: str) -> bool:
        """Return whether the device supports the search parameters."""
        lists = re.search(r"\bnprobe=(\d+)", parameters)
        return hasattr(self._faiss, "GpuIndexCagra") or lists is None or int(lists[1]) <= MOST

    def to_device(self, index: Any, *, fp16: bool = False) -> Any:  # noqa: ANN401
        """Copy an index to the device; ``ConfigError`` if faiss has no GPU version of it, or it does not fit."""
        options = self._faiss.GpuClonerOptions()
        options.useFloat16 = fp16
        copy = partial(self._faiss.index_cpu_to_gpu, self._resources, self._device, index, options)
        return self._do(copy, "faiss cannot place an index of this kind")

    def from_device(self, index: Any) -> Any:  # noqa: ANN401
        """Copy an index back to the CPU."""
        return self._do(lambda: self._faiss.index_gpu_to_cpu(index))

    def graph(self, vectors: NDArray[np.floating]) -> Any:  # noqa: ANN401
        """Build a CAGRA graph on the device and return it as a CPU index; ``ConfigError`` without cuVS."""
        if not hasattr(self._faiss, "GpuIndexCagra"):
            raise ConfigError("kind 'cagra' needs faiss with cuVS; install faiss-gpu-cuvs, or use kind 'hnsw'")
        config = self._faiss.GpuIndexCagraConfig()
        config.device = self._device

        def build() -> Any:  # noqa: ANN401
            metric = self._faiss.METRIC_INNER_PRODUCT
            graph = self._faiss.GpuIndexCagra(self._resources, vectors.shape[1], metric, config)
            # The graph keeps only a pointer: the vectors must live until they are copied.
            kept = np.ascontiguousarray(vectors, dtype=np.float32)
            graph.train(kept)
            on_cpu = self._faiss.IndexHNSWCagra()
            graph.copyTo(on_cpu)
            return on_cpu

        return self._do(build)

    def _graph_proposer(self, graph: Any, parameters: str) -> Proposer:  # noqa: ANN401
        # CAGRA's counterpart of efSearch; it must be at least the count, and is passed to each search.
        effort = int(parameters.removeprefix("efSearch=") or self._faiss.SearchParametersCagra().itopk_size)

        def propose(queries: Vectors, count: int) -> Proposals:
            options = self._faiss.SearchParametersCagra()
            options.itopk_size = -(-max(effort, count) // _WARP) * _WARP
            return proposer(graph, params=options)(queries, count)

        return propose

    def _do(self, work: Callable[[], _Result], failure: str = "faiss failed") -> _Result:
        def turn() -> _Result:
            while not self._unused.empty():
                self._unused.get().clear()
            return work()

        try:
            return self._worker.submit(turn).result()
        except (RuntimeError, MemoryError) as error:
            raise ConfigError(f"{failure} on {self.name}: {reason(error)}") from error

    def _in_turn(self, propose: Proposer) -> Proposer:
        # The worker also frees the index, before it works again. Only this list holds it, and a queue, unlike the
        # worker's own, takes it from any thread at any time.
        held = [propose]

        def asked(queries: Vectors, count: int) -> Proposals:
            return self._do(lambda: held[0](queries, count))

        weakref.finalize(asked, self._unused.put, held)
        return asked


def find_gpu(device: str | None, library: ModuleType | Any = faiss) -> FaissGpu | None:  # noqa: ANN401
    """Return the GPU that ``device`` names (``cuda``, ``cuda:1``, ...), or None; a missing GPU is logged."""
    kind, _, number = (device or "").partition(":")
    if kind != "cuda":
        return None
    if not hasattr(library, "StandardGpuResources"):
        message = "%s: this faiss was built without GPU support; searching on the CPU; for GPUs, run: %s"
        _LOG.warning(message, device, install_extra("gpu"))
        return None
    count = library.get_num_gpus()
    if (number and not number.isdecimal()) or int(number or 0) >= count:
        _LOG.warning("%s: faiss finds %d GPUs; searching on the CPU", device, count)
        return None
    return _gpu(int(number or 0), library)


@cache
def _gpu(number: int, library: ModuleType) -> FaissGpu:
    return FaissGpu(number, library)
