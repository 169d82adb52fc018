"""Search on a GPU: the whole code path, with a replacement for the part of faiss that needs a GPU."""

import re
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np
import pytest

from tests.fakes import HashEncoder
from tests.udr.search.test_exact import assert_equal, unit
from udr.errors import ConfigError
from udr.retrieval import RetrievalRequest, Retriever
from udr.search import MOST, MOST_OF_GRAPH, ExactProposals, ExactSearch, FaissGpu, RankedProposals, find_gpu, make_index


class FakeGpuFaiss:
    """The part of faiss that udr uses on GPUs, with indexes on the CPU; records calls and their threads."""

    METRIC_INNER_PRODUCT = faiss.METRIC_INNER_PRODUCT
    ParameterSpace = GpuParameterSpace = faiss.ParameterSpace
    GpuIndexFlatConfig = GpuClonerOptions = GpuIndexCagraConfig = SimpleNamespace
    IndexHNSWCagra = SimpleNamespace

    def __init__(self, gpus: int = 1) -> None:
        self.gpus, self.calls, self.threads = gpus, list[Any](), set[str]()

    def get_num_gpus(self) -> int:
        return self.gpus

    def StandardGpuResources(self) -> str:
        self.record("resources")
        return "resources"

    def GpuIndexFlatIP(self, resources: str, dimension: int, config: SimpleNamespace) -> Any:
        self.record((resources, config.device, config.useFloat16))
        return faiss.IndexFlatIP(dimension)

    def index_cpu_to_gpu(self, resources: str, device: int, index: Any, options: SimpleNamespace) -> Any:
        if isinstance(index, faiss.IndexHNSW):
            raise RuntimeError("This index type is not implemented on GPU.")
        self.record((resources, device, options.useFloat16))
        return faiss.clone_index(index)

    def index_gpu_to_cpu(self, index: Any) -> Any:
        return faiss.clone_index(index)

    def record(self, call: Any) -> None:
        self.calls.append(call)
        self.threads.add(threading.current_thread().name)


class FakeCuvsFaiss(FakeGpuFaiss):
    """The same with graphs; a graph is a flat index, and records the effort of its searches."""

    class SearchParametersCagra(SimpleNamespace):
        itopk_size = 64

    class GpuIndexCagra:
        def __init__(self, resources: str, dimension: int, metric: int, config: SimpleNamespace) -> None:
            assert (resources, metric, config.device) == ("resources", faiss.METRIC_INNER_PRODUCT, 0)
            self.flat, self.efforts = faiss.IndexFlatIP(dimension), list[int]()

        def train(self, vectors: Any) -> None:
            # Like faiss, keep a pointer to the vectors, which does not keep them alive.
            self.pointer = weakref.ref(vectors)
            self.flat.add(vectors)

        def copyTo(self, other: SimpleNamespace) -> None:
            assert self.pointer() is not None, "reads freed vectors"
            other.flat = self.flat

        def search(self, queries: Any, count: int, *, params: SimpleNamespace) -> Any:
            self.efforts.append(params.itopk_size)
            if count > 512 or count > params.itopk_size or params.itopk_size % 32:
                raise RuntimeError(f"RAFT failure: `topk` ({count}) must be at most 512 and `itopk_size`")
            return self.flat.search(queries, count)


class FullGpuFaiss(FakeGpuFaiss):
    error: Exception = RuntimeError("Error in allocMemory: cudaMalloc error out of memory [2]\nand more")

    def GpuIndexFlatIP(self, *_: Any) -> Any:
        raise self.error


VECTORS = unit(600, 16, seed=0)


@pytest.mark.parametrize("fp16", [False, True])
def test_flat_search_equals_exact_search_and_uses_one_worker(fp16: bool) -> None:
    queries, library = unit(9, 16, seed=1), FakeGpuFaiss()
    gpu = FaissGpu(0, library)
    results = ExactProposals(gpu.flat(VECTORS, fp16=fp16), VECTORS, limit=MOST).search(queries, 20)
    assert_equal(results, ExactSearch(VECTORS).search(queries, 20))
    assert library.calls == ["resources", ("resources", 0, fp16)]
    assert all(name.startswith("udr-cuda:0") for name in library.threads)


def test_an_index_is_freed_by_the_worker_before_its_next_work() -> None:
    freed: list[str] = []

    class Watched(FakeGpuFaiss):
        def GpuIndexFlatIP(self, resources: str, dimension: int, config: SimpleNamespace) -> Any:
            index = super().GpuIndexFlatIP(resources, dimension, config)
            weakref.finalize(index, lambda: freed.append(threading.current_thread().name))
            return index

    gpu = FaissGpu(0, Watched())
    old, new = (gpu.flat(vectors, fp16=False) for vectors in (VECTORS, VECTORS[:300]))
    old(VECTORS[:2], 5)
    del old
    _, positions = new(VECTORS[:2], 1)
    assert positions.tolist() == [[0], [1]]
    assert len(freed) == 1 and freed[0].startswith("udr-cuda:0")


def test_an_index_is_built_on_the_device_and_copied_back() -> None:
    library = FakeGpuFaiss()
    gpu = FaissGpu(0, library)
    index = gpu.from_device(make_index("IVF4,Flat", VECTORS, sample=300, threads=1, to_device=gpu.to_device))
    propose, limit = gpu.index(index, "nprobe=4", fp16=True)
    assert library.calls == ["resources", ("resources", 0, False), ("resources", 0, True)]
    assert index.ntotal == 600 and index.nprobe == 1 and limit == MOST
    results = ExactProposals(propose, VECTORS, limit=limit).search(VECTORS[:5], 7)
    assert_equal(results, ExactSearch(VECTORS).search(VECTORS[:5], 7))


def test_an_unsupported_index_or_parameter_is_an_error() -> None:
    gpu = FaissGpu(0, FakeGpuFaiss())
    lists = make_index("IVF4,Flat", VECTORS, sample=300, threads=1)
    for index, parameters, message in (
        (faiss.IndexHNSWFlat(16, 8), "", r"cannot place an index of this kind on cuda:0: .*not implemented on GPU"),
        (lists, "efSearch=3", "search parameters 'efSearch=3' on cuda:0"),
        (lists, "nprobe=4096", "without cuVS, faiss searches at most 2048 lists on cuda:0, found nprobe=4096"),
    ):
        with pytest.raises(ConfigError, match=message):
            gpu.index(index, parameters, fp16=False)
    with pytest.raises(ConfigError, match="kind 'cagra' needs faiss with cuVS; install faiss-gpu-cuvs"):
        gpu.graph(VECTORS)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_graph_is_copied_before_its_vectors_are_freed(dtype: type[np.floating]) -> None:
    assert FaissGpu(0, FakeCuvsFaiss()).graph(VECTORS.astype(dtype)).flat.ntotal == 600


@pytest.mark.parametrize(
    ("parameters", "k", "effort"),
    [
        ("efSearch=64", 8, 64),
        ("efSearch=64", 17, 96),
        ("efSearch=16", 10, 64),
        ("efSearch=100", 10, 128),
        ("efSearch=64", 300, 512),
        ("", 8, 64),
    ],
)
def test_the_effort_of_a_graph_search_is_at_least_the_number_of_proposals(parameters: str, k: int, effort: int) -> None:
    library = FakeCuvsFaiss()
    graph = library.GpuIndexCagra("resources", 16, faiss.METRIC_INNER_PRODUCT, SimpleNamespace(device=0))
    graph.train(VECTORS)
    library.index_cpu_to_gpu = lambda *_: graph  # type: ignore[method-assign]
    propose, limit = FaissGpu(0, library).index(None, parameters, fp16=False)
    results = RankedProposals(propose, VECTORS, ExactSearch(VECTORS), 4, limit).search(VECTORS[:2], k)
    assert_equal(results, ExactSearch(VECTORS).search(VECTORS[:2], k))
    assert graph.efforts == [effort] and limit == MOST_OF_GRAPH


def test_only_cuvs_supports_more_than_2048_lists() -> None:
    plain, cuvs = FaissGpu(0, FakeGpuFaiss()), FaissGpu(0, FakeCuvsFaiss())
    assert plain.supports("") and plain.supports("nprobe=2048") and cuvs.supports("nprobe=4096")
    assert not plain.supports("nprobe=4096")


def test_a_failed_search_is_an_error_of_one_line() -> None:
    class Failing(FakeGpuFaiss):
        def GpuIndexFlatIP(self, *_: Any) -> Any:
            return SimpleNamespace(add=lambda vectors: None, search=FullGpuFaiss().GpuIndexFlatIP)

    propose = FaissGpu(0, Failing()).flat(VECTORS, fp16=False)

    with pytest.raises(ConfigError, match=r"^faiss failed on cuda:0: Error in allocMemory: .* memory \[2\]$"):
        propose(VECTORS[:1], 5)


def test_memory_of_cuvs_that_runs_out_is_an_error_of_one_line() -> None:
    library = FullGpuFaiss()
    library.error = MemoryError("std::bad_alloc: out_of_memory: CUDA error\nand more")
    with pytest.raises(ConfigError, match=r"^faiss cannot place the vectors on cuda:0: .* out_of_memory: CUDA error$"):
        FaissGpu(0, library).flat(VECTORS, fp16=False)


def open_on_gpu(index: Path, monkeypatch: pytest.MonkeyPatch, library: FakeGpuFaiss) -> Retriever:
    gpu = FaissGpu(0, library)
    monkeypatch.setattr("udr.search.find_gpu", lambda device: gpu)
    return Retriever.open(index, encoder=HashEncoder(), device="cuda")


def test_a_partition_that_does_not_fit_the_device_is_searched_on_the_cpu(
    index: Path, retriever: Retriever, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with open_on_gpu(index, monkeypatch, FullGpuFaiss()) as opened:
        assert opened.retrieve("notes", "a dull monday", 5) == retriever.retrieve("notes", "a dull monday", 5)
    assert len(caplog.messages) == 3 and not any("\n" in message for message in caplog.messages)
    assert re.fullmatch(
        r"task notes: faiss cannot place the vectors on cuda:0: .* out of memory \[2\]; searching on the CPU",
        caplog.messages[0],
    )


def test_requests_beyond_the_limit_of_the_device_are_answered_together_with_others(
    index: Path, retriever: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [RetrievalRequest(input="a dull monday", task="notes", k=k) for k in (3, 8, 20)]
    # The two copies of the query are requested in addition.
    requests.append(RetrievalRequest(input={"thing": "lamp", "text": "works every day"}, task="reviews", k=8))
    monkeypatch.setattr("udr.search.faiss_gpu.MOST", 8)
    with open_on_gpu(index, monkeypatch, FakeGpuFaiss()) as opened:
        assert opened.answer(requests) == retriever.answer(requests)


def test_each_device_has_one_worker() -> None:
    library = FakeGpuFaiss(gpus=2)
    first, second = find_gpu("cuda", library), find_gpu("cuda:1", library)
    assert first is not None and second is not None
    assert (first.name, second.name) == ("cuda:0", "cuda:1")
    assert find_gpu("cuda:0", library) is first and find_gpu("cuda:1", library) is second


@pytest.mark.parametrize(
    ("device", "library", "warning"),
    [
        *((device, FakeGpuFaiss(), None) for device in (None, "cpu", "mps")),
        ("cuda", SimpleNamespace(), "this faiss was built without GPU support; searching on the CPU"),
        ("cuda", FakeGpuFaiss(gpus=0), "cuda: faiss finds 0 GPUs; searching on the CPU"),
        *((f"cuda:{n}", FakeGpuFaiss(), f"cuda:{n}: faiss finds 1 GPUs; searching on the CPU") for n in "1x"),
    ],
)
def test_a_missing_gpu_is_a_warning(
    device: str | None, library: Any, warning: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert find_gpu(device, library) is None
    assert len(caplog.messages) == (warning is not None)
    assert (warning or "") in caplog.text and caplog.text.count("\n") <= 1
