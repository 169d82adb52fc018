"""Search on a real GPU: the results of the CPU."""

import faiss
import numpy as np
import pytest

from tests.udr.search.test_exact import assert_equal, unit
from udr.search import (
    MOST,
    ExactProposals,
    ExactSearch,
    FaissGpu,
    Positions,
    RankedProposals,
    find_gpu,
    make_index,
    proposer,
)

pytestmark = pytest.mark.gpu
VECTORS, QUERIES = unit(20_000, 64, seed=0), unit(100, 64, seed=1)


@pytest.fixture
def gpu() -> FaissGpu:
    if not hasattr(faiss, "StandardGpuResources"):
        pytest.skip("this faiss was built without GPU support")
    found = find_gpu("cuda")
    assert found is not None
    return found


def recall(positions: Positions) -> float:
    expected, _ = ExactSearch(VECTORS).search(QUERIES, 10)
    return float(np.mean([len({*row} & {*best}) / 10 for row, best in zip(positions, expected, strict=True)]))


@pytest.mark.parametrize("fp16", [False, True])
@pytest.mark.parametrize("copies", [1, 50])
def test_flat_search_equals_exact_search(gpu: FaissGpu, fp16: bool, copies: int) -> None:
    vectors, queries = np.repeat(VECTORS[: 20_000 // copies], copies, axis=0), QUERIES[:50]
    propose, exact = gpu.flat(vectors, fp16=fp16), ExactSearch(vectors)
    # For one result, all 50 copies are proposed: faiss on a GPU breaks ties in any order.
    approximate = RankedProposals(propose, vectors, exact, 64, MOST)
    searcher = approximate if fp16 else ExactProposals(propose, vectors, limit=MOST, exact=exact)
    for k in (1, 10, 300, MOST + 1):
        assert_equal(searcher.search(queries, k), exact.search(queries, k))


@pytest.mark.parametrize("kind", ["IVF64,Flat", "IVF64,SQ8", "IVF64,PQ8x8"])
def test_indexes_built_and_searched_on_the_device_have_high_recall(gpu: FaissGpu, kind: str) -> None:
    index = gpu.from_device(make_index(kind, VECTORS, sample=20_000, threads=4, to_device=gpu.to_device))
    propose, limit = gpu.index(index, "nprobe=64", fp16=False)
    searcher = RankedProposals(propose, VECTORS, ExactSearch(VECTORS), 64, limit)
    # Codes of 8 bytes lose rows that those of 64 keep, on the CPU too.
    assert recall(searcher.search(QUERIES, 10)[0]) > (0.85 if "PQ" in kind else 0.95)


def test_a_graph_built_on_the_device_has_high_recall_there_and_on_the_cpu(gpu: FaissGpu) -> None:
    if not hasattr(faiss, "GpuIndexCagra"):
        pytest.skip("this faiss is built without cuVS")
    graph = gpu.graph(VECTORS)
    for propose, limit in (gpu.index(graph, "efSearch=128", fp16=False), (proposer(graph), MOST)):
        searcher = RankedProposals(propose, VECTORS, ExactSearch(VECTORS), 4, limit)
        assert recall(searcher.search(QUERIES, 10)[0]) > 0.8
