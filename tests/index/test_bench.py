"""``bench``: the cheapest settings that reach a recall are stored, whatever else happens in the index."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes import HashEncoder
from tests.index.build.test_faiss_index import DAMAGES
from tests.index.builds import WORDS, build_index, write_places
from tests.udr.search.test_faiss_gpu import FakeGpuFaiss
from udr.errors import ArtifactError, ConfigError
from udr.files import locked
from udr.retrieval import Retriever
from udr.search import ExactSearch, FaissGpu
from udr.store import IndexVersion, SearchSettings, open_version, read_settings, verify, write_settings
from udr_index import bench, exact_values, measure, settings_to_try, tune
from udr_index.versions import prune
from udr_index.versions.live import compact

pytestmark = pytest.mark.filterwarnings("ignore:.*please provide at least")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("places")
    build_index(write_places(root / "tasks"), root / "index", kind="IVF8,SQ8", flat_below=5)
    return root / "index"


@pytest.fixture
def version(original: Path, tmp_path: Path) -> IndexVersion:
    """A version with notes and questions in 8 lists."""
    return open_version(Path(shutil.copytree(original, tmp_path / "index")))


def settings_of(version: IndexVersion) -> dict[str, SearchSettings]:
    return dict(read_settings(version.path, version.manifest))


def test_cheapest_settings_that_reach_the_recall_are_stored(version: IndexVersion) -> None:
    before = settings_of(version)

    measured = {item.task: item for item in bench(version, HashEncoder(), 0.999, queries=40)}

    assert {task: item.settings for task, item in measured.items()} == settings_of(version) != before
    assert measured["questions"].recall >= 0.999 and measured["questions"].milliseconds > 0
    queries = HashEncoder().encode_queries([f"Where is {word} {other}?" for word in WORDS for other in WORDS])
    tried = tune(version, "questions", queries, 0.9, 10)
    assert [item.settings.parameters for item in tried if item.settings] == [
        f"nprobe={2**n}" for n in range(len(tried))
    ]
    assert all(item.recall < 0.9 for item in tried[:-1]) and tried[-1].recall >= 0.9
    assert verify(version.path.parent.parent) == []


def test_best_settings_are_stored_if_none_reach_the_recall(version: IndexVersion) -> None:
    few = [SearchSettings(parameters=f"nprobe={number}") for number in (2, 1)]

    measured = list(bench(version, HashEncoder(), 1.0, queries=40, choices=lambda _: few))

    assert measured[1].recall < 1
    assert settings_of(version)["questions"].parameters == "nprobe=2"


def test_settings_that_a_gpu_does_not_support_are_not_tried(version: IndexVersion) -> None:
    gpu = FaissGpu(0, FakeGpuFaiss())
    gpu.supports = lambda parameters: parameters in ("nprobe=1", "nprobe=2")  # type: ignore[method-assign]

    tried = tune(version, "questions", HashEncoder().encode_queries(WORDS), 1.0, 10, gpu)

    assert {item.settings.parameters for item in tried if item.settings} == {"nprobe=1", "nprobe=2"}


def test_two_benches_keep_each_other_s_settings(version: IndexVersion) -> None:
    other = SearchSettings(parameters="nprobe=2", oversample=7)
    running = bench(version, HashEncoder(), 0.5, queries=5)
    assert next(running).task == "notes"
    # Another bench writes while this one measures the next partition.
    write_settings(version.path, version.manifest, settings_of(version) | {"notes": other})

    (last,) = running

    assert settings_of(version) == {"notes": other, "questions": last.settings}


def test_settings_are_kept_by_the_version_that_is_current_by_then(version: IndexVersion) -> None:
    before = settings_of(version)

    def compacting(kind: str) -> list[SearchSettings]:
        with Retriever.open(version.root, encoder=HashEncoder()) as retriever:
            retriever.delete("notes", retriever.demonstrations("notes").rows[0].id)
        compact(version.root, HashEncoder())
        return settings_to_try(kind)

    stored = {item.task: item.settings for item in bench(version, HashEncoder(), 0.999, choices=compacting)}

    current = open_version(version.root)
    assert current.manifest.version != version.manifest.version and settings_of(current) == stored
    assert settings_of(version) == before != stored


def test_settings_of_another_encoder_or_kind_are_not_kept(version: IndexVersion, tmp_path: Path) -> None:
    tasks, root = write_places(tmp_path / "tasks"), version.root
    measured = bench(version, HashEncoder(), 0.5, queries=5)
    next(measured)
    build_index(tasks, root, HashEncoder(salt="other"), kind="IVF8,SQ8", flat_below=5)
    with pytest.raises(ArtifactError, match=r"has become current meanwhile, and its encoder is not .*; run the comm"):
        next(measured)
    build_index(tasks, root, kind="IVF4,SQ8", flat_below=5)
    before = settings_of(open_version(root))
    with pytest.raises(ArtifactError, match="the index of the task 'notes' is not that which was measured"):
        next(bench(version, HashEncoder(), 0.5, queries=5))
    assert settings_of(open_version(root)) == before


def test_bench_waits_for_other_commands(version: IndexVersion) -> None:
    before, lock = settings_of(version), locked(version.path.parent.parent)
    with lock, pytest.raises(ArtifactError, match="is in use by process"):
        list(bench(version, HashEncoder(), 0.5, queries=5, wait_seconds=0.1))
    assert settings_of(version) == before


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_settings_are_replaced(version: IndexVersion, name: str) -> None:
    DAMAGES[name](version.path / "search.json")

    settings = {item.task: item.settings for item in bench(version, HashEncoder(), 0.5, queries=5)}

    assert verify(version.path.parent.parent) == []
    assert settings_of(version) == settings


def test_half_written_settings_are_ignored_and_pruned(version: IndexVersion) -> None:
    root, leftover = version.path.parent.parent, version.path / ".search.json.tmp"
    leftover.write_bytes(b"half")

    assert verify(root) == []
    Retriever.open(root, encoder=HashEncoder()).close()
    expected = (f"versions/{version.manifest.version}/.search.json.tmp",)
    assert prune(root, 1, dry_run=True).leftovers == prune(root, 1).leftovers == expected
    assert not leftover.exists()


def test_recall_counts_any_of_equal_demonstrations() -> None:
    vectors = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)

    class LastOfEquals(ExactSearch):
        def search(self, queries: Any, k: int, rows: Any = None) -> Any:
            positions, similarities = super().search(queries, len(self))
            return positions[:, 5 - k : 5], similarities[:, 5 - k : 5]

    exact = exact_values(vectors, vectors[:1], 3)
    assert measure(LastOfEquals(vectors), vectors[:1], exact)[0] == 1.0
    assert measure(LastOfEquals(vectors), vectors[5:6], np.ones((1, 3)))[0] == 1.0
    assert measure(ExactSearch(vectors[5:]), vectors[:1], exact)[0] == 0.0


@pytest.mark.parametrize(
    "wrong", [{"recall": 0.0}, {"recall": 1.1}, {"recall": 0.9, "k": 0}, {"recall": 1, "queries": 0}]
)
def test_numbers_out_of_range_are_refused(version: IndexVersion, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="the recall must be above 0 and at most 1"):
        next(bench(version, HashEncoder(), **wrong))


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("IVF6,Flat", [f"nprobe={number}" for number in (1, 2, 4, 6)]),
        ("IVF2,PQ8", ["nprobe=1", "nprobe=2"] * 2),
        ("cagra", [f"efSearch={2**power}" for power in range(4, 11)]),
        ("SQ8", [""] * 3),
    ],
)
def test_settings_are_tried_from_the_cheapest_on(kind: str, parameters: list[str]) -> None:
    settings = settings_to_try(kind)
    assert [item.parameters for item in settings] == parameters
    assert settings == sorted(settings, key=lambda item: item.oversample)
