"""Search on a GPU: its whole code path, over a stand-in for the part of faiss that needs one."""

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
from tests.udr.search.test_exact import unit
from udr.errors import ConfigError
from udr.retrieval import RetrievalRequest, Retriever
from udr.search import MOST, MOST_OF_GRAPH, ExactProposals, ExactSearch, FaissGpu, RankedProposals, find_gpu, make_index


class FakeGpuFaiss:
    """What udr uses of faiss on GPUs, with indexes of the CPU; notes what was asked for, and by which thread."""

    METRIC_INNER_PRODUCT = faiss.METRIC_INNER_PRODUCT
    ParameterSpace = GpuParameterSpace = faiss.ParameterSpace
    GpuIndexFlatConfig = GpuClonerOptions = GpuIndexCagraConfig = SimpleNamespace
    IndexHNSWCagra = SimpleNamespace

    def __init__(self, gpus: int = 1) -> None:
        self.gpus, self.asked, self.threads = gpus, list[Any](), set[str]()

    def get_num_gpus(self) -> int:
        return self.gpus

    def StandardGpuResources(self) -> str:
        self.note("resources")
        return "resources"

    def GpuIndexFlatIP(self, resources: str, dimension: int, config: SimpleNamespace) -> Any:
        self.note((resources, config.device, config.useFloat16))
        return faiss.IndexFlatIP(dimension)

    def index_cpu_to_gpu(self, resources: str, device: int, index: Any, options: SimpleNamespace) -> Any:
        if isinstance(index, faiss.IndexHNSW):
            raise RuntimeError("This index type is not implemented on GPU.")
        self.note((resources, device, options.useFloat16))
        return faiss.clone_index(index)

    def index_gpu_to_cpu(self, index: Any) -> Any:
        return faiss.clone_index(index)

    def note(self, what: Any) -> None:
        self.asked.append(what)
        self.threads.add(threading.current_thread().name)


class FakeCuvsFaiss(FakeGpuFaiss):
    """The same with graphs; a graph is a flat index, and keeps the effort of its searches."""

    class SearchParametersCagra(SimpleNamespace):
        itopk_size = 64

    class GpuIndexCagra:
        def __init__(self, resources: str, dimension: int, metric: int, config: SimpleNamespace) -> None:
            assert (resources, metric, config.device) == ("resources", faiss.METRIC_INNER_PRODUCT, 0)
            self.flat, self.efforts = faiss.IndexFlatIP(dimension), list[int]()

        def train(self, vectors: Any) -> None:
            # As faiss does, this keeps where the vectors are, and not the vectors.
            self.there = weakref.ref(vectors)
            self.flat.add(vectors)

        def copyTo(self, other: SimpleNamespace) -> None:
            assert self.there() is not None, "reads vectors that are gone"
            other.flat = self.flat

        def search(self, queries: Any, count: int, *, params: SimpleNamespace) -> Any:
            self.efforts.append(params.itopk_size)
            if count > 512 or count > params.itopk_size or params.itopk_size % 32:
                raise RuntimeError(f"RAFT failure: `topk` ({count}) must be at most 512 and `itopk_size`")
            return self.flat.search(queries, count)


@pytest.mark.parametrize("fp16", [False, True])
def test_flat_search_gives_the_ids_of_the_cpu_on_one_worker(monkeypatch: pytest.MonkeyPatch, fp16: bool) -> None:
    monkeypatch.setattr("udr.search.faiss_gpu.BLOCK", 70)
    vectors, queries, library = unit(300, 16, seed=0), unit(9, 16, seed=1), FakeGpuFaiss()
    gpu = FaissGpu(0, library)

    searcher = ExactProposals(gpu.flat(vectors, fp16=fp16), vectors, most=MOST)
    found, exact = searcher.search(queries, 20), ExactSearch(vectors).search(queries, 20)

    assert np.array_equal(found[0], exact[0]) and np.array_equal(found[1], exact[1])
    assert library.asked == ["resources", ("resources", 0, fp16)]
    assert all(name.startswith("udr-cuda:0") for name in library.threads)


def test_an_index_is_made_on_the_device_and_comes_back_to_be_written() -> None:
    vectors, library = unit(300, 16, seed=0), FakeGpuFaiss()
    gpu = FaissGpu(0, library)

    made = make_index("IVF4,Flat", vectors, sample=300, threads=1, to_device=gpu.to_device)
    index = gpu.from_device(made)
    propose, most = gpu.index(index, "nprobe=4", fp16=True)

    assert library.asked == ["resources", ("resources", 0, False), ("resources", 0, True)]
    assert index.ntotal == 300 and index.nprobe == 1 and most == MOST
    found = ExactProposals(propose, vectors, most=most).search(vectors[:5], 7)
    assert np.array_equal(found[0], ExactSearch(vectors).search(vectors[:5], 7)[0])


def test_what_a_gpu_cannot_do_is_an_error_that_says_so() -> None:
    gpu = FaissGpu(0, FakeGpuFaiss())
    with pytest.raises(ConfigError, match=r"cannot place an index of this kind on cuda:0: .*not implemented on GPU"):
        gpu.index(faiss.IndexHNSWFlat(16, 8, faiss.METRIC_INNER_PRODUCT), "", fp16=False)
    lists = make_index("IVF4,Flat", unit(300, 16, seed=0), sample=300, threads=1)
    with pytest.raises(ConfigError, match="search parameters 'efSearch=3' on cuda:0"):
        gpu.index(lists, "efSearch=3", fp16=False)
    with pytest.raises(ConfigError, match="without cuVS, faiss searches at most 2048 lists on cuda:0, found nprobe=4096"):
        gpu.index(lists, "nprobe=4096", fp16=False)
    with pytest.raises(ConfigError, match="kind 'cagra' needs faiss with cuVS; install faiss-gpu-cuvs"):
        gpu.graph(unit(300, 16, seed=0))


def test_a_graph_is_built_on_the_device_and_searched_with_its_effort() -> None:
    vectors, library = unit(300, 16, seed=0), FakeCuvsFaiss()
    gpu = FaissGpu(0, library)

    on_cpu = gpu.graph(vectors)
    graph = library.GpuIndexCagra("resources", 16, faiss.METRIC_INNER_PRODUCT, SimpleNamespace(device=0))
    graph.train(vectors)
    library.index_cpu_to_gpu = lambda *_: graph  # type: ignore[method-assign]
    for parameters in ("efSearch=128", ""):
        propose, most = gpu.index(on_cpu, parameters, fp16=False)
        _, positions = propose(vectors[:3], 1)
        assert positions.tolist() == [[0], [1], [2]] and most == MOST_OF_GRAPH

    assert on_cpu.flat.ntotal == 300
    assert graph.efforts == [128, 64]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_graph_is_copied_while_its_vectors_are_there(dtype: type[np.floating]) -> None:
    vectors = unit(300, 16, seed=0).astype(dtype)

    assert FaissGpu(0, FakeCuvsFaiss()).graph(vectors).flat.ntotal == 300


@pytest.mark.parametrize(
    ("effort", "k", "deepest"), [(64, 8, 64), (64, 17, 96), (16, 10, 64), (100, 10, 128), (64, 300, 512)]
)
def test_a_graph_is_searched_as_deep_as_what_is_asked_for(effort: int, k: int, deepest: int) -> None:
    vectors, library = unit(600, 16, seed=0), FakeCuvsFaiss()
    graph = library.GpuIndexCagra("resources", 16, faiss.METRIC_INNER_PRODUCT, SimpleNamespace(device=0))
    graph.train(vectors)
    library.index_cpu_to_gpu = lambda *_: graph  # type: ignore[method-assign]
    propose, most = FaissGpu(0, library).index(None, f"efSearch={effort}", fp16=False)

    found = RankedProposals(propose, vectors, ExactSearch(vectors), 4, most).search(vectors[:2], k)

    assert np.array_equal(found[0], ExactSearch(vectors).search(vectors[:2], k)[0])
    assert graph.efforts == [deepest]


@pytest.mark.parametrize(
    ("library", "parameters", "taken"),
    [
        (FakeGpuFaiss(), "nprobe=2048", True),
        (FakeGpuFaiss(), "nprobe=4096", False),
        (FakeGpuFaiss(), "", True),
        (FakeCuvsFaiss(), "nprobe=4096", True),
    ],
)
def test_only_cuvs_looks_into_more_than_2048_lists(library: Any, parameters: str, taken: bool) -> None:
    assert FaissGpu(0, library).takes(parameters) is taken


def test_what_fails_on_the_device_is_an_error_of_one_line() -> None:
    class Full(FakeGpuFaiss):
        def GpuIndexFlatIP(self, *_: Any) -> Any:
            return SimpleNamespace(add=lambda vectors: None, search=self.fail)

        def fail(self, *_: Any) -> Any:
            raise RuntimeError("Error in allocMemory: cudaMalloc error out of memory [2]\nand more")

    propose = FaissGpu(0, Full()).flat(unit(300, 16, seed=0), fp16=False)

    with pytest.raises(ConfigError, match=r"^faiss failed on cuda:0: Error in allocMemory: .* memory \[2\]$"):
        propose(unit(1, 16, seed=1), 5)


def on_gpu(index: Path, monkeypatch: pytest.MonkeyPatch, library: FakeGpuFaiss, most: int = MOST) -> Retriever:
    gpu = FaissGpu(0, library)
    monkeypatch.setattr("udr.search.find_gpu", lambda device: gpu)
    monkeypatch.setattr("udr.search.faiss_gpu.MOST", most)
    return Retriever.open(index, encoder=HashEncoder(), device="cuda")


def test_what_does_not_fit_the_device_is_searched_on_the_cpu_with_a_notice(
    index: Path, retriever: Retriever, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Full(FakeGpuFaiss):
        def GpuIndexFlatIP(self, *_: Any) -> Any:
            raise RuntimeError("Error in allocMemory: cudaMalloc error out of memory [2]")

    with on_gpu(index, monkeypatch, Full()) as opened:
        assert opened.retrieve("notes", "a dull monday", 5) == retriever.retrieve("notes", "a dull monday", 5)

    assert len(caplog.messages) == 3 and not any("\n" in message for message in caplog.messages)
    assert re.fullmatch(
        r"task notes: faiss cannot place the vectors on cuda:0: .* out of memory \[2\]; searching it on the CPU",
        caplog.messages[0],
    )


def test_more_than_the_device_shows_is_found_and_spoils_no_other_request(
    index: Path, retriever: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [RetrievalRequest(input="a dull monday", task="notes", k=k) for k in (3, 8, 20)]
    # Two copies of the query, which are fetched on top.
    requests.append(RetrievalRequest(input={"thing": "lamp", "text": "works every day"}, task="reviews", k=8))

    with on_gpu(index, monkeypatch, FakeGpuFaiss(), most=8) as opened:
        assert opened.answer(requests) == retriever.answer(requests)


@pytest.mark.parametrize("device", [None, "cpu", "mps"])
def test_other_devices_need_no_gpu(device: str | None, caplog: pytest.LogCaptureFixture) -> None:
    assert find_gpu(device, FakeGpuFaiss()) is None
    assert caplog.messages == []


def test_each_device_has_one_worker_for_all_its_partitions() -> None:
    library = FakeGpuFaiss(gpus=2)

    first, second = find_gpu("cuda", library), find_gpu("cuda:1", library)

    assert first is not None and second is not None
    assert (first.name, second.name) == ("cuda:0", "cuda:1")
    assert find_gpu("cuda:0", library) is first and find_gpu("cuda:1", library) is second


@pytest.mark.parametrize(
    ("device", "library", "notice"),
    [
        ("cuda", SimpleNamespace(), "this faiss was built without GPU support; searching on the CPU"),
        ("cuda", FakeGpuFaiss(gpus=0), "cuda: faiss finds 0 GPUs; searching on the CPU"),
        ("cuda:1", FakeGpuFaiss(), "cuda:1: faiss finds 1 GPUs; searching on the CPU"),
        ("cuda:x", FakeGpuFaiss(), "cuda:x: faiss finds 1 GPUs; searching on the CPU"),
    ],
)
def test_no_such_gpu_is_a_notice_of_one_line(
    device: str, library: Any, notice: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert find_gpu(device, library) is None
    (message,) = caplog.messages
    assert notice in message and "\n" not in message
