"""Search on a real GPU: the ids of the CPU, and what faiss does there with selectors."""

import faiss
import numpy as np
import pytest

from tests.udr.search.test_exact import unit
from udr.search import MOST, ExactProposals, ExactSearch, RankedProposals, find_gpu, make_index, proposer

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _with_gpu() -> None:
    if not hasattr(faiss, "StandardGpuResources"):
        pytest.skip("this faiss was built without GPU support")


@pytest.mark.parametrize("fp16", [False, True])
@pytest.mark.parametrize("copies", [1, 50])
def test_flat_search_gives_the_ids_of_the_cpu(fp16: bool, copies: int) -> None:
    vectors, queries = np.repeat(unit(20_000 // copies, 64, seed=0), copies, axis=0), unit(50, 64, seed=1)
    gpu = find_gpu("cuda")
    assert gpu is not None
    propose = gpu.flat(vectors, fp16=fp16)
    exact = ExactSearch(vectors)
    searcher = (
        RankedProposals(propose, vectors, exact, 8, MOST)
        if fp16
        else ExactProposals(propose, vectors, most=MOST, exact=exact)
    )

    for k in (1, 10, 300, MOST + 1):
        found, expected = searcher.search(queries, k), exact.search(queries, k)
        assert np.array_equal(found[0], expected[0]) and np.array_equal(found[1], expected[1])


@pytest.mark.parametrize("kind", ["IVF64,Flat", "IVF64,SQ8", "IVF64,PQ8x8"])
def test_indexes_made_and_searched_there_find_what_those_of_the_cpu_find(kind: str) -> None:
    vectors, queries = unit(20_000, 64, seed=0), unit(100, 64, seed=1)
    gpu = find_gpu("cuda")
    assert gpu is not None
    exact = ExactSearch(vectors)
    index = gpu.from_device(make_index(kind, vectors, sample=20_000, threads=4, to_device=gpu.to_device))
    propose, most = gpu.index(index, "nprobe=64", fp16=False)
    found = RankedProposals(propose, vectors, exact, 64, most).search(queries, 10)[0]
    expected = exact.search(queries, 10)[0]
    assert np.mean([len({*one} & {*other}) / 10 for one, other in zip(found, expected, strict=True)]) > 0.95


def test_a_graph_is_built_there_and_searched_on_both() -> None:
    if not hasattr(faiss, "GpuIndexCagra"):
        pytest.skip("this faiss is built without cuVS")
    vectors, queries = unit(20_000, 64, seed=0), unit(100, 64, seed=1)
    gpu = find_gpu("cuda")
    assert gpu is not None
    exact, on_cpu = ExactSearch(vectors), gpu.graph(vectors)
    expected = exact.search(queries, 10)[0]
    for propose, most in (gpu.index(on_cpu, "efSearch=128", fp16=False), (proposer(on_cpu), MOST)):
        found = RankedProposals(propose, vectors, exact, 4, most).search(queries, 10)[0]
        assert np.mean([len({*one} & {*other}) / 10 for one, other in zip(found, expected, strict=True)]) > 0.8
