"""Partitions of every kind: what faiss proposes is ranked exactly, and how it is searched is measured and kept."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from filelock import FileLock

from tests.fakes import NOTES, QUESTIONS, HashEncoder, write_task
from tests.index.build.test_builder import REPOSITORY, tree
from tests.udr.search.test_faiss_gpu import FakeGpuFaiss
from udr.errors import ArtifactError, ConfigError, UdrError, VerificationError
from udr.retrieval import Retriever
from udr.search import ExactSearch, FaissGpu, make_index
from udr.store import IndexVersion, SearchSettings, open_searchers, open_version, read_settings, verify, write_settings
from udr_index import bench, efforts, exact_values, measure, not_reached, tune
from udr_index.build import BuildConfig, build, first_settings, lists_of, resolve, rows_to_train, sample_size
from udr_index.versions import prune

pytestmark = pytest.mark.filterwarnings("ignore:.*please provide at least")

WORDS = "river lake harbour island valley castle bridge forest road mill tower field".split()


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of one task with 800 rows and one with 12."""
    root = tmp_path_factory.mktemp("big")
    generator = np.random.default_rng(0)
    chosen = [[WORDS[place] for place in generator.choice(12, 4, replace=False)] for _ in range(800)]
    questions: list[Mapping[str, Any]] = [
        {"id": f"{n:03}", "input": {"question": f"Where is {' '.join(words)} {n % 90}?"}, "target": "place"}
        for n, words in enumerate(chosen)
    ]
    write_task(root, QUESTIONS, train=questions)
    write_task(root, NOTES, train=[{"id": word, "input": {"text": word}, "target": "glad"} for word in WORDS])
    return root


def built(big: Path, out: Path, **changes: Any) -> IndexVersion:
    build(BuildConfig(tasks=big, out=out, **{"flat_below": 50, **changes}), HashEncoder())
    return open_version(out)


KINDS = {
    "hnsw": "HNSW32_SQ8",
    "ivf": "IVF20,SQ8",
    "ivfpq": "IVF20,PQ4x8",
    "IVF8,Flat": "IVF8,Flat",
    "PQ8x4": "PQ8x4",
    "cagra": "cagra",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_built_verified_and_searched_the_same_each_time(big: Path, tmp_path: Path, kind: str) -> None:
    version = built(big, tmp_path / "a", kind=kind)

    assert {name: part.kind for name, part in version.manifest.partitions.items()} == {
        "notes": "flat",
        "questions": KINDS[kind],
    }
    assert verify(tmp_path / "a") == []
    assert tree(built(big, tmp_path / "b", kind=kind).path) == tree(version.path)
    # With all the effort there is, the answers are those of comparing with every vector.
    most = efforts(KINDS[kind])[-1]
    write_settings(
        version.path, version.manifest, {"questions": SearchSettings(parameters=most.parameters, oversample=80)}
    )
    queries = HashEncoder().encode_queries([f"{word} {other}" for word in WORDS for other in WORDS[:3]])
    exact = ExactSearch(version.vectors("questions")).search(queries, 10)
    found = open_searchers(version)["questions"].search(queries, 10)
    assert np.array_equal(found[0], exact[0]) and np.array_equal(found[1], exact[1])


def test_half_the_memory_holds_nearly_the_same(big: Path, tmp_path: Path) -> None:
    half, whole = built(big, tmp_path / "a", dtype="float16"), built(big, tmp_path / "b")

    vectors = half.vectors("questions")

    assert vectors.dtype == np.float16
    assert np.abs(vectors - whole.vectors("questions")).max() < 1e-3
    with Retriever.open(tmp_path / "a", encoder=HashEncoder()) as retriever:
        assert retriever.retrieve("questions", "river lake", k=3).demonstrations[0].similarity > 0.3
    assert verify(tmp_path / "a") == []


def test_numbers_that_half_precision_cannot_hold_are_refused(big: Path, tmp_path: Path) -> None:
    class Loud(HashEncoder):
        def encode_demonstrations(self, texts: Any) -> Any:
            return super().encode_demonstrations(texts) * 1e6

    with pytest.raises(UdrError, match="gives numbers that float16 cannot hold; keep them as float32"):
        build(BuildConfig(tasks=big, out=tmp_path, dtype="float16"), Loud(metric="dot"))


REFUSED: dict[str, tuple[str, str]] = {
    "no such kind": ("hsnw", "kind 'hsnw' of vectors of 48 numbers: .*could not parse"),
    "no such parts": ("PQ7x8", "kind 'PQ7x8' of vectors of 48 numbers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_kind_that_faiss_cannot_make_is_refused_before_anything_is_encoded(
    big: Path, tmp_path: Path, name: str
) -> None:
    kind, message = REFUSED[name]
    encoder = HashEncoder()

    with pytest.raises(ConfigError, match=message):
        build(BuildConfig(tasks=big, out=tmp_path / "out", kind=kind), encoder)

    assert encoder.demonstrations == []
    assert not (tmp_path / "out").exists()


def test_partitions_too_small_to_train_a_kind_are_flat_with_a_notice(
    big: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    version = built(big, tmp_path / "a", kind="ivfpq", flat_below=None)
    kinds = {name: part.kind for name, part in version.manifest.partitions.items()}
    assert kinds == {"notes": "flat", "questions": "IVF20,PQ4x8"}
    assert "flat, with too few demonstrations to train 'ivfpq' on: notes" in caplog.messages

    version = built(big, tmp_path / "b", kind="PQ8x12")
    assert {part.kind for part in version.manifest.partitions.values()} == {"flat"}
    assert "flat, with too few demonstrations to train 'PQ8x12' on: questions" in caplog.messages


def test_the_examples_can_be_indexed_as_the_readme_says(tmp_path: Path) -> None:
    config = BuildConfig(tasks=REPOSITORY / "examples/tasks", out=tmp_path, kind="ivfpq", dtype="float16", bm25=True)
    build(config, HashEncoder())
    with Retriever.open(tmp_path, encoder=HashEncoder()) as retriever:
        assert len(retriever.retrieve("home_assistant", "wake me at six", k=3, mode="hybrid")) == 3


class RealGpuFaiss(FakeGpuFaiss):
    """Refuses what faiss has not on GPUs."""

    def index_cpu_to_gpu(self, resources: str, device: int, index: Any, options: Any) -> Any:
        index = faiss.downcast_index(index)
        there = (faiss.IndexFlat, faiss.IndexIVFFlat, faiss.IndexIVFPQ, faiss.IndexIVFScalarQuantizer)
        if not isinstance(index, there):
            raise RuntimeError("This index type is not implemented on GPU.")
        return super().index_cpu_to_gpu(resources, device, index, options)


@pytest.mark.parametrize("kind", ["SQ8", "PQ8x4", "IVF8,PQ8x4fs", "HNSW8", "cagra", "IVF8,SQ8"])
def test_what_a_gpu_lacks_is_made_on_the_cpu_with_a_notice(
    big: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    monkeypatch.setattr(
        "udr_index.build.builder.find_gpu", lambda device: FaissGpu(0, RealGpuFaiss()) if device else None
    )

    version = built(big, tmp_path / "a", kind=kind, device="cuda")

    assert tree(version.path) == tree(built(big, tmp_path / "b", kind=kind).path)
    notices = [message for message in caplog.messages if message.endswith("; making it on the CPU")]
    assert [message.partition(":")[0] for message in notices] == ([] if kind == "IVF8,SQ8" else [f"kind {kind!r}"])


def test_the_sample_that_is_trained_on_is_spread_over_all_vectors() -> None:
    class Spy:
        is_trained = False

        def train(self, vectors: Any) -> None:
            sampled.append(vectors[:, 0].tolist())

        def add(self, vectors: Any) -> None:
            pass

    sampled = list[list[float]]()
    for count in (10, 15, 19, 25):
        make_index("Flat", np.arange(count, dtype=np.float32)[:, None], sample=10, threads=1, to_device=lambda _: Spy())

    assert sampled == [[place * count // 10 for place in range(10)] for count in (10, 15, 19, 25)]


SPOILT: dict[str, Any] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "altered": lambda path: path.write_bytes(path.read_bytes().replace(b"4", b"5", 1)),
    "no object": lambda path: path.write_bytes(b"[]"),
}


def test_a_bench_that_is_killed_while_it_writes_spoils_nothing_and_prune_cleans_up(big: Path, tmp_path: Path) -> None:
    version = built(big, tmp_path, kind="ivf")
    left = version.path / ".search.json.tmp"
    left.write_bytes(b"half")

    assert verify(tmp_path) == []
    Retriever.open(tmp_path, encoder=HashEncoder()).close()
    assert prune(tmp_path, 1, dry_run=True) == prune(tmp_path, 1)
    assert not left.exists()
    left.write_bytes(b"half")
    assert prune(tmp_path, 1).leftovers == (f"versions/{version.manifest.version}/.search.json.tmp",)


def test_two_benches_keep_each_other_s_settings(big: Path, tmp_path: Path) -> None:
    version = built(big, tmp_path, kind="IVF2,Flat", flat_below=0)
    other = SearchSettings(parameters="nprobe=2", oversample=7)
    measured = bench(version, HashEncoder(), 0.5, queries=5)
    assert next(measured).task == "notes"
    # What another one writes while this one measures the next partition.
    kept = read_settings(version.path, version.manifest)
    write_settings(version.path, version.manifest, kept | {"notes": other})

    (last,) = measured

    assert read_settings(version.path, version.manifest) == {"notes": other, "questions": last.settings}


def test_a_bench_waits_for_who_is_at_work_in_the_index(
    big: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = built(big, tmp_path, kind="IVF2,Flat")
    before = (version.path / "search.json").read_bytes()
    monkeypatch.setattr(sys.modules["udr_index.bench"], "_WAIT_SECONDS", 0.2)

    with FileLock(tmp_path / ".lock"), pytest.raises(ArtifactError, match="another build is at work here, or a publi"):
        list(bench(version, HashEncoder(), 0.5, queries=5))
    assert (version.path / "search.json").read_bytes() == before


@pytest.mark.parametrize("name", SPOILT)
def test_a_bench_replaces_settings_that_are_spoilt(big: Path, tmp_path: Path, name: str) -> None:
    version = built(big, tmp_path, kind="IVF2,Flat", flat_below=0)
    SPOILT[name](version.path / "search.json")

    settings = {one.task: one.settings for one in bench(version, HashEncoder(), 0.5, queries=5)}

    assert verify(tmp_path) == []
    assert read_settings(version.path, version.manifest) == settings


@pytest.mark.parametrize("name", SPOILT)
def test_search_settings_that_are_spoilt_are_found(big: Path, tmp_path: Path, name: str) -> None:
    version = built(big, tmp_path, kind="ivf")
    SPOILT[name](version.path / "search.json")

    (finding,) = verify(tmp_path)

    assert finding.path.endswith("search.json")
    with pytest.raises(VerificationError, match=r"search\.json: is (missing|altered)"):
        open_searchers(version)


def test_a_flat_index_has_no_search_settings(big: Path, tmp_path: Path) -> None:
    version = built(big, tmp_path, kind="flat")
    assert not (version.path / "search.json").exists() and read_settings(version.path, version.manifest) == {}
    (version.path / "search.json").write_bytes(b"{}")
    (finding,) = verify(tmp_path)
    assert (finding.path[-11:], finding.problem) == ("search.json", "does not belong to the version")


def test_an_index_of_other_vectors_is_refused(big: Path, tmp_path: Path) -> None:
    version, other = built(big, tmp_path / "a", kind="ivf"), built(big, tmp_path / "b", kind="ivf", pool=500)
    path = "partitions/questions/index.faiss"
    shutil.copy(other.path / path, version.path / path)
    with pytest.raises(ArtifactError, match=r"holds 500 vectors of 48 numbers, its partition 800 of 48"):
        open_searchers(version)
    (version.path / path).write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match=r"index\.faiss: cannot be read .*; run: udr index verify"):
        open_searchers(version)


def test_the_cheapest_settings_that_reach_a_recall_are_kept(big: Path, tmp_path: Path) -> None:
    version = built(big, tmp_path, kind="ivf")
    before = read_settings(version.path, version.manifest)

    measured = {one.task: one for one in bench(version, HashEncoder(), 0.999, queries=40)}

    assert (measured["notes"].recall, measured["notes"].settings) == (1.0, None)
    kept = read_settings(version.path, version.manifest)["questions"]
    assert measured["questions"].settings == kept != before["questions"]
    assert measured["questions"].recall >= 0.999 and measured["questions"].milliseconds > 0
    queries = HashEncoder().encode_queries([f"Where is {word} {other}?" for word in WORDS for other in WORDS])
    tried = tune(version, "questions", queries, 0.9, 10)
    assert [one.settings.parameters for one in tried if one.settings] == [f"nprobe={2**n}" for n in range(len(tried))]
    assert all(one.recall < 0.9 for one in tried[:-1]) and tried[-1].recall >= 0.9
    assert verify(tmp_path) == []


def test_a_recall_out_of_reach_keeps_the_best(big: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = built(big, tmp_path, kind="ivf")
    monkeypatch.setattr(
        sys.modules["udr_index.bench"], "efforts", lambda _: [SearchSettings(parameters=f"nprobe={n}") for n in (2, 1)]
    )

    measured = list(bench(version, HashEncoder(), 1.0, queries=40))

    assert not_reached(measured, 1.0) == ["questions"]
    assert read_settings(version.path, version.manifest)["questions"].parameters == "nprobe=2"


def test_no_effort_is_tried_that_a_gpu_does_not_take(big: Path, tmp_path: Path) -> None:
    version, gpu = built(big, tmp_path, kind="IVF8,Flat"), FaissGpu(0, FakeGpuFaiss())
    gpu.takes = lambda parameters: parameters in ("nprobe=1", "nprobe=2")  # type: ignore[method-assign]

    tried = tune(version, "questions", HashEncoder().encode_queries(WORDS), 1.0, 10, gpu)

    assert {one.settings.parameters for one in tried if one.settings} <= {"nprobe=1", "nprobe=2"}


def test_recall_counts_equals_whichever_is_found() -> None:
    vectors = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)

    class Last(ExactSearch):
        def search(self, queries: Any, k: int) -> Any:
            positions, similarities = super().search(queries, len(self))
            return positions[:, 5 - k : 5], similarities[:, 5 - k : 5]

    exact = exact_values(vectors, vectors[:1], 3)
    assert measure(Last(vectors), "t", "flat", None, vectors[:1], exact).recall == 1.0
    assert measure(Last(vectors), "t", "flat", None, vectors[5:6], np.ones((1, 3))).recall == 1.0
    assert measure(ExactSearch(vectors[5:]), "t", "flat", None, vectors[:1], exact).recall == 0.0


@pytest.mark.parametrize(
    "wrong", [{"recall": 0.0}, {"recall": 1.1}, {"recall": 0.9, "k": 0}, {"recall": 1, "queries": 0}]
)
def test_numbers_out_of_range_are_refused(big: Path, tmp_path: Path, wrong: dict[str, Any]) -> None:
    version = built(big, tmp_path)
    with pytest.raises(ConfigError, match="the recall must be above 0 and at most 1"):
        next(bench(version, HashEncoder(), **wrong))


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
def test_short_names_stand_for_factory_strings(
    kind: str, count: int, dimension: int, flat_below: int | None, expected: str
) -> None:
    assert resolve(kind, count, dimension, flat_below) == expected


def test_lists_say_how_much_is_trained_on_and_searched() -> None:
    assert [lists_of(kind) for kind in ("IVF64,Flat", "OPQ16,IVF8_HNSW32,PQ16", "HNSW32")] == [64, 8, None]
    assert [sample_size(kind) for kind in ("IVF64,Flat", "IVF4096,SQ8", "PQ16")] == [65_536, 262_144, 65_536]
    assert [rows_to_train(kind) for kind in ("flat", "HNSW32_SQ8", "IVF64,SQ8", "IVF1,PQ8", "OPQ4,IVF64,PQ4x10fs")] == [
        1,
        1,
        64,
        256,
        1024,
    ]
    assert first_settings("IVF4096,PQ48x8") == SearchSettings(parameters="nprobe=128", oversample=16)
    assert first_settings("HNSW32_SQ8") == first_settings("cagra") == SearchSettings(parameters="efSearch=64")
    assert first_settings("PQ16") == SearchSettings(oversample=16)
    assert [one.parameters for one in efforts("IVF6,Flat")] == [f"nprobe={n}" for n in (1, 2, 4, 6)]
