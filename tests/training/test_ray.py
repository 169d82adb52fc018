"""Ray itself, on a cluster of two nodes in this machine: results of one process, and a node that is killed."""

import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.training.conftest import Udr
from tests.training.feedback.test_scattered import SIZES, stored

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
pytest.importorskip("ray", reason="the extra ray is not installed")

pytestmark = [
    # A cluster takes 20 seconds to start.
    pytest.mark.slow,
    pytest.mark.timeout(900),
    # Of Ray's own: pipes of processes that it ended, and names that it imports from old places.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two nodes of two CPUs each, beside a head that has none."""
    from ray.cluster_utils import Cluster

    # Its types are too loose to check.
    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


@pytest.mark.parametrize("workers", [2, 4])
def test_the_store_of_a_cluster_equals_that_of_one_process(
    cluster: Any, workers: int, udr: Udr, tasks: Path, lm_folder: Path, tmp_path: Path
) -> None:
    command = ["feedback", "score", tasks, "--lm", lm_folder, *SIZES, "--out"]
    assert udr(*command, tmp_path / "here")[0] == 0
    runner = ["--runner", "ray", "--workers", workers, "--ray-address", cluster.address]
    status, _, err = udr(*command, tmp_path / "there", *runner)
    assert status == 0 and f"of {workers} workers, each " in err
    assert stored(tmp_path / "there") == stored(tmp_path / "here") != []


def test_a_node_killed_in_the_middle_loses_and_repeats_nothing_that_was_stored(
    cluster: Any, udr: Udr, tasks: Path, lm_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    many = ["--queries", 24, "--candidates", 20, "--pack-tokens", 64, "--lm", lm_folder]
    assert udr("feedback", "score", tasks, *many, "--out", tmp_path / "here")[0] == 0
    run, before = tmp_path / "there", dict[str, int]()

    def kill() -> None:
        while not (count := scored(run)):
            time.sleep(0.02)
        before["scored"] = count
        # The other worker may still be loading.
        loaded = re.search(r"worker . of 2 has loaded its model: .*process (\d+)", "\n".join(caplog.messages))
        assert loaded is not None
        cluster.remove_node(node_of(cluster, int(loaded[1])), allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    runner = ["--runner", "ray", "--workers", 2, "--ray-address", cluster.address]
    status, _, err = udr("feedback", "score", tasks, *many, "--out", run, *runner)
    killer.join()
    assert status == 0, err
    assert 0 < before["scored"] < len(stored(run)) and "died" in caplog.text
    assert stored(run) == stored(tmp_path / "here")


def node_of(cluster: Any, process: int) -> Any:
    """The node whose Raylet, its first process, is the parent of a worker's process."""
    parent = int(Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()[1])
    return next(node for node in cluster.worker_nodes if node.all_processes["raylet"][0].process.pid == parent)


def scored(run: Path) -> int:
    """How many pairs a run has stored by now."""
    if not (run / "feedback.sqlite").exists():
        return 0
    with sqlite3.connect(run / "feedback.sqlite") as file:
        try:
            return int(file.execute("SELECT count(*) FROM score").fetchone()[0])
        except sqlite3.OperationalError:
            # It has no tables yet.
            return 0


@pytest.mark.parametrize("workers", [2, 4])
def test_the_index_of_a_cluster_equals_that_of_one_process(
    cluster: Any, workers: int, udr: Udr, tasks: Path, encoder_folder: Path, tmp_path: Path
) -> None:
    command = ["index", "build", tasks, "--model", encoder_folder, "--device", "cpu", "--no-export", "--out"]
    assert udr(*command, tmp_path / "here")[0] == 0
    runner = ["--runner", "ray", "--workers", workers, "--ray-address", cluster.address]
    status, _, err = udr(*command, tmp_path / "there", *runner)
    assert status == 0, err
    here, there = ((tmp_path / name / "versions") for name in ("here", "there"))
    names = sorted(path.relative_to(here) for path in here.rglob("*") if path.suffix in (".npy", ".json"))
    assert names and [name for name in names if (here / name).read_bytes() != (there / name).read_bytes()] == []


def test_the_answers_of_a_cluster_equal_those_of_one_process(
    cluster: Any, udr: Udr, tasks: Path, lm_folder: Path, tmp_path: Path
) -> None:
    command = ["evaluate", tasks, "--lm", lm_folder, "--retrievers", "random,oracle", "--oracle-candidates", 3]
    here, there = tmp_path / "here", tmp_path / "there"
    status, table, _ = udr(*command, "--shots", 2, "--output", here)
    assert status == 0
    runner = ["--runner", "ray", "--workers", 4, "--ray-address", cluster.address]
    status, out, err = udr(*command, "--shots", 2, "--output", there, *runner)
    assert (status, out) == (0, table), err
    names = sorted(path.relative_to(here) for path in here.rglob("*.jsonl"))
    assert len(names) == 6
    assert [name for name in names if (here / name).read_bytes() != (there / name).read_bytes()] == []
