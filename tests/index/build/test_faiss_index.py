"""Faiss indexes of every kind: what faiss proposes is ranked exactly, and damaged settings are found."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import faiss
import numpy as np
import pytest

from tests.fakes import HashEncoder
from tests.index.builds import REPOSITORY, WORDS, build_index, tree, write_places
from tests.udr.search.test_faiss_gpu import FakeGpuFaiss
from udr.errors import ArtifactError, ConfigError, UdrError, VerificationError
from udr.files import write_atomically
from udr.retrieval import Retriever
from udr.search import ExactSearch, FaissGpu, make_index, open_index, write_index
from udr.store import (
    SearchSettings,
    open_searchers,
    open_version,
    read_settings,
    search_digest,
    verify,
    write_settings,
)
from udr_index import settings_to_try
from udr_index.build import first_settings, lists_of, resolve, rows_to_train, sample_size

pytestmark = pytest.mark.filterwarnings("ignore:.*please provide at least")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_places(tmp_path_factory.mktemp("places"))


@pytest.fixture(scope="module")
def original(places: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ivf") / "out"
    build_index(places, out, kind="ivf", flat_below=50)
    return out


@pytest.fixture
def ivf(original: Path, tmp_path: Path) -> Path:
    """An index with notes flat and questions ivf, which a test may change."""
    return Path(shutil.copytree(original, tmp_path / "ivf"))


# The encoder's dimension is 8: training codes of 8 bits takes seconds for each group of 8 numbers.
KINDS = {
    "hnsw": "HNSW32_SQ8",
    "ivf": "IVF7,SQ8",
    "ivfpq": "IVF7,PQ1x8",
    "IVF8,Flat": "IVF8,Flat",
    "PQ2x4": "PQ2x4",
    "cagra": "cagra",
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_built_and_searched_alike_each_time(places: Path, tmp_path: Path, kind: str) -> None:
    encoder = HashEncoder(dimension=8)
    built, again = (build_index(places, tmp_path / name, encoder, kind=kind, flat_below=50) for name in "ab")

    assert tree(built.path) == tree(again.path)
    version = open_version(tmp_path / "a")
    kinds = {name: part.kind for name, part in version.manifest.partitions.items()}
    assert kinds == {"notes": "flat", "questions": KINDS[kind]}
    assert verify(tmp_path / "a") == []
    # With the highest effort, results equal those of exact search.
    parameters = settings_to_try(KINDS[kind])[-1].parameters
    settings = {"questions": SearchSettings(parameters=parameters, oversample=30)}
    write_settings(version.path, version.manifest, settings)
    queries = encoder.encode_queries([f"{word} {other}" for word in WORDS for other in WORDS[:3]])
    exact = ExactSearch(version.vectors("questions")).search(queries, 10)
    result = open_searchers(version)["questions"].search(queries, 10)
    assert np.array_equal(result[0], exact[0]) and np.array_equal(result[1], exact[1])


def test_settings_written_while_a_version_opens_are_news_to_it(ivf: Path) -> None:
    version = open_version(ivf)
    before = search_digest(version.path, version.manifest)

    class Measured(HashEncoder):
        """Its fingerprint is read once the searchers are open."""

        def __getattribute__(self, name: str) -> Any:
            if name == "fingerprint":
                write_settings(version.path, version.manifest, {"questions": SearchSettings(oversample=7)})
            return super().__getattribute__(name)

    with Retriever.open(ivf, encoder=Measured()) as retriever:
        assert retriever.search_digest == before
        assert retriever.stored_digest() == search_digest(version.path, version.manifest) != before


def test_float16_vectors_are_nearly_the_same(places: Path, original: Path, tmp_path: Path) -> None:
    build_index(places, tmp_path, dtype="float16")

    vectors = open_version(tmp_path).vectors("questions")

    assert vectors.dtype == np.float16
    assert np.abs(vectors - open_version(original).vectors("questions")).max() < 1e-3
    with Retriever.open(tmp_path, encoder=HashEncoder()) as retriever:
        assert retriever.retrieve("questions", "river lake", k=3).demonstrations[0].similarity > 0.3


def test_numbers_too_large_for_float16_are_refused(places: Path, tmp_path: Path) -> None:
    class LargeEncoder(HashEncoder):
        def encode_demonstrations(self, texts: Any) -> Any:
            return super().encode_demonstrations(texts) * 1e6

    with pytest.raises(UdrError, match="returned numbers that float16 cannot hold; use float32"):
        build_index(places, tmp_path, LargeEncoder(metric="dot"), dtype="float16")


@pytest.mark.parametrize("kind", ["hsnw", "PQ7x8"])
def test_unknown_kind_is_refused_before_anything_is_encoded(places: Path, tmp_path: Path, kind: str) -> None:
    encoder = HashEncoder()

    with pytest.raises(ConfigError, match=f"kind '{kind}' .* 48"):
        build_index(places, tmp_path / "out", encoder, kind=kind)

    assert encoder.demonstrations == [] and not (tmp_path / "out").exists()


def test_partitions_too_small_to_train_are_flat(places: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for kind, small in (("IVF20,SQ8", ["notes"]), ("PQ8x12", ["notes", "questions"])):
        build_index(places, tmp_path, kind=kind)
        parts = open_version(tmp_path).manifest.partitions
        assert [name for name, part in parts.items() if part.kind == "flat"] == small
        assert f"flat, with too few demonstrations to train {kind!r}: {', '.join(small)}" in caplog.messages


def test_examples_can_be_indexed_as_in_the_readme(tmp_path: Path) -> None:
    build_index(REPOSITORY / "examples/tasks", tmp_path, kind="ivfpq", dtype="float16", bm25=True)
    with Retriever.open(tmp_path, encoder=HashEncoder()) as retriever:
        assert len(retriever.retrieve("home_assistant", "wake me at six", k=3, mode="hybrid")) == 3


class RealGpuFaiss(FakeGpuFaiss):
    """Refuses kinds that faiss does not support on GPUs."""

    def index_cpu_to_gpu(self, resources: str, device: int, index: Any, options: Any) -> Any:
        index = faiss.downcast_index(index)
        supported = (faiss.IndexFlat, faiss.IndexIVFFlat, faiss.IndexIVFPQ, faiss.IndexIVFScalarQuantizer)
        if not isinstance(index, supported):
            raise RuntimeError("This index type is not implemented on GPU.")
        return super().index_cpu_to_gpu(resources, device, index, options)


class FullCuvsFaiss(FakeGpuFaiss):
    """Runs out of memory when it trains an index, as cuVS does."""

    def index_cpu_to_gpu(self, *_: Any) -> Any:
        full = MemoryError("std::bad_alloc: out_of_memory: CUDA error")
        return SimpleNamespace(is_trained=False, train=Mock(side_effect=full))


def test_an_index_whose_training_does_not_fit_the_gpu_is_built_on_the_cpu(
    places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gpu = FaissGpu(0, FullCuvsFaiss())
    monkeypatch.setattr("udr_index.build.staging.find_gpu", lambda device: gpu if device else None)
    built = build_index(places, tmp_path / "a", kind="IVF8,SQ8", flat_below=50, device="cuda")
    message = "kind 'IVF8,SQ8': std::bad_alloc: out_of_memory: CUDA error; building it on the CPU"
    assert message in caplog.messages
    assert tree(built.path) == tree(build_index(places, tmp_path / "b", kind="IVF8,SQ8", flat_below=50).path)


@pytest.mark.parametrize("kind", ["SQ8", "PQ8x4", "IVF8,PQ8x4fs", "HNSW8", "cagra", "IVF8,SQ8"])
def test_kinds_that_a_gpu_does_not_support_are_built_on_the_cpu(
    places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    gpu = FaissGpu(0, RealGpuFaiss())
    monkeypatch.setattr("udr_index.build.staging.find_gpu", lambda device: gpu if device else None)

    built = build_index(places, tmp_path / "a", kind=kind, flat_below=50, device="cuda")

    warnings = [message for message in caplog.messages if message.endswith("; building it on the CPU")]
    assert [message.partition(":")[0] for message in warnings] == ([] if kind == "IVF8,SQ8" else [f"kind {kind!r}"])
    assert tree(built.path) == tree(build_index(places, tmp_path / "b", kind=kind, flat_below=50).path)


def test_training_sample_is_spread_over_all_vectors() -> None:
    to_device = Mock(return_value=Mock(is_trained=False))
    for count in (10, 15, 19, 25):
        make_index("Flat", np.arange(count, dtype=np.float32)[:, None], sample=10, threads=1, to_device=to_device)
        (sample,) = to_device.return_value.train.call_args.args
        assert sample[:, 0].tolist() == [number * count // 10 for number in range(10)]


@pytest.mark.parametrize("mapped", [True, False])
def test_lists_of_product_codes_are_opened_whatever_their_number(tmp_path: Path, mapped: bool) -> None:
    # Here, faiss' table of distances, of 64 lists x 8 x 256 numbers, would be larger than the file.
    kind, vectors = "IVF64,PQ8x8", np.random.default_rng(0).standard_normal((2500, 8), np.float32)
    made, path = make_index(kind, vectors, sample=2500, threads=1), tmp_path / "index.faiss"
    write_atomically(path, lambda stream: write_index(stream, made))

    opened = open_index(path, kind, vectors.shape, mapped=mapped)
    assert opened.search(vectors[:9], 5)[1].tolist() == made.search(vectors[:9], 5)[1].tolist()


@pytest.mark.parametrize(("kind", "threads"), [("HNSW8", 1), ("IVF2,Flat", 2)])
def test_only_graphs_are_filled_by_the_threads_asked_for(kind: str, threads: int) -> None:
    before, seen = faiss.omp_get_max_threads(), list[int]()
    to_device = Mock()
    to_device.return_value.add.side_effect = lambda _: seen.append(faiss.omp_get_max_threads())
    faiss.omp_set_num_threads(2)
    try:
        make_index(kind, np.ones((4, 2), np.float32), sample=4, threads=1, to_device=to_device)
        assert seen == [threads] and faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "altered": lambda path: path.write_bytes(path.read_bytes().replace(b"4", b"5", 1)),
    "no object": lambda path: path.write_bytes(b"[]"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_search_settings_are_found(ivf: Path, name: str) -> None:
    version = open_version(ivf)
    DAMAGES[name](version.path / "search.json")

    (finding,) = verify(ivf)

    assert finding.path.endswith("search.json")
    with pytest.raises(VerificationError, match=r"search\.json: is (missing|altered)"):
        open_searchers(version)


def test_flat_index_has_no_search_settings(places: Path, tmp_path: Path) -> None:
    build_index(places, tmp_path)
    version = open_version(tmp_path)
    assert not (version.path / "search.json").exists() and read_settings(version.path, version.manifest) == {}
    (version.path / "search.json").write_bytes(b"{}")
    (finding,) = verify(tmp_path)
    assert finding.path[-11:] == "search.json" and finding.problem.startswith("is altered")


def test_faiss_index_of_other_vectors_is_refused(places: Path, ivf: Path, tmp_path: Path) -> None:
    version, path = open_version(ivf), "partitions/questions/index.faiss"
    other = build_index(places, tmp_path / "other", kind="ivf", flat_below=50, pool=200)
    shutil.copy(other.path / path, version.path / path)
    with pytest.raises(ArtifactError, match=r"has 200 vectors of 48 numbers, but its partition has 300 of 48"):
        open_searchers(version)
    (version.path / path).write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match=r"index\.faiss: cannot be read .*; run: udr index verify"):
        open_searchers(version)


@pytest.mark.parametrize(
    ("kind", "count", "dimension", "flat_below", "expected"),
    [
        ("auto", 99_999, 384, None, "flat"),
        ("auto", 100_000, 384, None, "IVF1024,SQ8"),
        ("auto", 20_000, 384, 20_000, "IVF512,SQ8"),
        ("flat", 10**7, 384, None, "flat"),
        ("hnsw", 5, 384, None, "HNSW32_SQ8"),
        ("ivf", 1_000_000, 384, None, "IVF4096,SQ8"),
        ("ivf", 30, 384, None, "IVF1,SQ8"),
        ("ivfpq", 2_000_000, 384, None, "IVF4096,PQ48x8"),
        ("ivfpq", 2_000_000, 768, None, "IVF4096,PQ48x8"),
        ("ivfpq", 1_000, 6, None, "IVF25,PQ1x8"),
        ("OPQ16,IVF64,PQ16", 1_000, 32, 10, "OPQ16,IVF64,PQ16"),
        ("cagra", 1_000, 32, 2_000, "flat"),
    ],
)
def test_short_names_become_factory_strings(
    kind: str, count: int, dimension: int, flat_below: int | None, expected: str
) -> None:
    assert resolve(kind, count, dimension, flat_below) == expected


def test_training_and_first_settings_follow_from_the_kind() -> None:
    assert [lists_of(kind) for kind in ("IVF64,Flat", "OPQ16,IVF8_HNSW32,PQ16", "HNSW32")] == [64, 8, None]
    assert [sample_size(kind) for kind in ("IVF64,Flat", "IVF4096,SQ8", "PQ16")] == [65_536, 262_144, 65_536]
    trained = {"flat": 1, "HNSW32_SQ8": 1, "IVF64,SQ8": 64, "IVF1,PQ8": 256, "OPQ4,IVF64,PQ4x10fs": 1024}
    assert {kind: rows_to_train(kind) for kind in trained} == trained
    assert first_settings("IVF4096,PQ48x8") == SearchSettings(parameters="nprobe=128", oversample=16)
    assert first_settings("HNSW32_SQ8") == first_settings("cagra") == SearchSettings(parameters="efSearch=64")
    assert first_settings("PQ16") == SearchSettings(oversample=16)
