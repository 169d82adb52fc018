"""Faiss on GPUs, in one file. Each device has one worker: faiss' GPU resources are not made for threads."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from udr.encoder import Vectors
from udr.errors import ConfigError, MissingExtraError, reason
from udr.faiss_search import BLOCK, proposer
from udr.search import Positions, Proposer

try:
    import faiss
except ImportError as error:
    raise MissingExtraError("faiss", "gpu") from error

_LOG = logging.getLogger(__name__)
_Result = TypeVar("_Result")

MOST = 2048
"""The most that faiss proposes at once on a GPU."""


class FaissGpu:
    """A GPU that faiss searches on.

    Args:
        device: its number.
        library: faiss, with its GPU part.

    Attributes:
        name: as torch calls the device.
    """

    def __init__(self, device: int, library: ModuleType | Any = faiss) -> None:  # noqa: ANN401
        self.name, self._device, self._faiss = f"cuda:{device}", device, library
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=f"udr-{self.name}")
        self._resources = self._do(library.StandardGpuResources)

    def flat(self, vectors: NDArray[np.floating], *, fp16: bool) -> Proposer:
        """Copy vectors to the device, and return what comparing with every one of them proposes."""
        config = self._faiss.GpuIndexFlatConfig()
        config.device, config.useFloat16 = self._device, fp16

        def place() -> Any:  # noqa: ANN401
            index = self._faiss.GpuIndexFlatIP(self._resources, vectors.shape[1], config)
            for start in range(0, len(vectors), BLOCK):
                index.add(np.ascontiguousarray(vectors[start : start + BLOCK], dtype=np.float32))
            return index

        return self._in_turn(proposer(self._do(place)))

    def index(self, index: Any, parameters: str, *, fp16: bool) -> Proposer:  # noqa: ANN401
        """Copy an index to the device, and return what it proposes with these search parameters.

        Raises:
            ConfigError: faiss has no such index on GPUs, or it has no such parameter.
        """
        placed = self.to_device(index, fp16=fp16)
        graph = getattr(self._faiss, "GpuIndexCagra", None)
        if graph is not None and isinstance(placed, graph):
            # A graph's parameters go with each search; what HNSW calls its effort is called otherwise here.
            effort = self._faiss.SearchParametersCagra()
            effort.itopk_size = int(parameters.removeprefix("efSearch=") or effort.itopk_size)
            return self._in_turn(proposer(placed, params=effort))
        try:
            self._do(lambda: self._faiss.GpuParameterSpace().set_index_parameters(placed, parameters))
        except RuntimeError as error:
            raise ConfigError(
                f"faiss does not take the search parameters {parameters!r} on {self.name}: {reason(error)}"
            ) from error
        return self._in_turn(proposer(placed))

    def to_device(self, index: Any, *, fp16: bool = False) -> Any:  # noqa: ANN401
        """Return an index's copy on the device.

        Raises:
            ConfigError: faiss has no such index on GPUs.
        """
        options = self._faiss.GpuClonerOptions()
        options.useFloat16 = fp16
        try:
            return self._do(lambda: self._faiss.index_cpu_to_gpu(self._resources, self._device, index, options))
        except RuntimeError as error:
            raise ConfigError(f"faiss has no index of this kind on {self.name}: {reason(error)}") from error

    def from_device(self, index: Any) -> Any:  # noqa: ANN401
        """Return the copy of an index that a file can hold and a CPU can search."""
        return self._do(lambda: self._faiss.index_gpu_to_cpu(index))

    def graph(self, vectors: NDArray[np.floating]) -> Any:  # noqa: ANN401
        """Build a graph (CAGRA) of vectors on the device, and return it as one that a CPU can search.

        Raises:
            ConfigError: this faiss was built without cuVS.
        """
        if not hasattr(self._faiss, "GpuIndexCagra"):
            raise ConfigError("kind 'cagra' needs faiss with cuVS; install faiss-gpu-cuvs, or take kind 'hnsw'")
        config = self._faiss.GpuIndexCagraConfig()
        config.device = self._device

        def build() -> Any:  # noqa: ANN401
            graph = self._faiss.GpuIndexCagra(
                self._resources, vectors.shape[1], self._faiss.METRIC_INNER_PRODUCT, config
            )
            graph.train(np.ascontiguousarray(vectors, dtype=np.float32))
            on_cpu = self._faiss.IndexHNSWCagra()
            graph.copyTo(on_cpu)
            return on_cpu

        return self._do(build)

    def _do(self, work: Callable[[], _Result]) -> _Result:
        return self._worker.submit(work).result()

    def _in_turn(self, propose: Proposer) -> Proposer:
        def proposed(queries: Vectors, count: int) -> tuple[NDArray[np.floating], Positions]:
            return self._do(lambda: propose(queries, count))

        return proposed


def find_gpu(device: str | None, library: ModuleType | Any = faiss) -> FaissGpu | None:  # noqa: ANN401
    """Return the GPU that ``device`` names; None where it names none, and with a notice where there is no such one.

    Args:
        device: ``cuda``, ``cuda:1``, ...; anything else stands for no GPU.
        library: faiss.
    """
    kind, _, number = (device or "").partition(":")
    if kind != "cuda":
        return None
    if not hasattr(library, "StandardGpuResources"):
        _LOG.warning("this faiss is built without GPUs; searching on the CPU (install udr-icl[gpu] for %s)", device)
        return None
    count = library.get_num_gpus()
    if (number and not number.isdecimal()) or int(number or 0) >= count:
        _LOG.warning("%s: faiss finds %d GPUs; searching on the CPU", device, count)
        return None
    return _gpu(int(number or 0), library)


@cache
def _gpu(number: int, library: ModuleType) -> FaissGpu:
    return FaissGpu(number, library)
