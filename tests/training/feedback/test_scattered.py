"""Feedback by workers: the scores and the file of one process, whatever dies; what fails is named, and exits with 4."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.training.conftest import Udr, assert_refused
from tests.udr.models.runner.fake_pool import FakePool
from udr.models import RunnerOptions, Scheduler
from udr_training.config import FeedbackConfig
from udr_training.feedback.local import LoadLM, opened_lm

SIZES = ["--queries", 6, "--candidates", 5, "--pack-tokens", 256]

Dies = Callable[[int, str], bool]


@contextmanager
def fake_workers(dies: Dies, load: LoadLM) -> Iterator[Scheduler[object, object]]:
    yield Scheduler(lambda: FakePool(2, load, dies), load.identity)


@pytest.fixture
def score(udr: Udr, tasks: Path, lm_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Runs ``udr feedback score``: in this process, or with workers that die of the shards of some calls."""

    def run(out: Path, dies: Dies | None = None) -> tuple[int, str]:
        if dies is not None:
            workers = "udr_training.feedback.local.scattered.open_workers"
            monkeypatch.setattr(workers, lambda _, load, *__: fake_workers(dies, load))
        runner = [] if dies is None else ["--runner", "ray"]
        status, _, err = udr("feedback", "score", tasks, "--lm", lm_folder, "--out", out, *SIZES, *runner)
        return status, err

    return run


def stored(run: Path) -> list[tuple[object, ...]]:
    """The scores of a run, bit for bit, by the hashes of what the language model read."""
    with sqlite3.connect(run / "feedback.sqlite") as file:
        select = (
            "SELECT d.digest, q.digest, log_likelihoods FROM score JOIN text d ON d.id = demonstration "
            "JOIN text q ON q.id = query ORDER BY 1, 2"
        )
        rows = file.execute(select).fetchall()
        (pairs,) = file.execute("SELECT pairs FROM work").fetchone()
    assert pairs == len(rows)
    return rows


def test_workers_that_die_leave_the_scores_of_one_process(
    score: Callable[..., tuple[int, str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert score(tmp_path / "here")[0] == 0
    deaths = list[str]()

    def dies(number: int, key: str) -> bool:
        # Each worker dies of the first shard that it gets, and of none after that.
        if len(deaths) < 2 and key not in deaths:
            deaths.append(key)
            return True
        return False

    status, err = score(tmp_path / "there", dies)
    assert status == 0 and caplog.text.count("failed and is tried again: the worker on node-") == len(deaths) == 2
    assert stored(tmp_path / "there") == stored(tmp_path / "here") != []
    assert "2 of 2 workers, each " in err


def test_pairs_that_fail_each_time_are_named_and_a_later_call_scores_only_them(
    score: Callable[..., tuple[int, str]], udr: Udr, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fatal = list[str]()

    def dies(number: int, key: str) -> bool:
        if not fatal:
            fatal.append(key)
        return key in fatal

    run = tmp_path / "run"
    status, err = score(run, dies)
    *_, last = err.strip().splitlines()
    assert status == 4 and "pairs failed on every try" in last and "run the command again to go on" in last
    lost = int(last.split("udr: error: ")[1].split()[0])
    assert 0 < lost == 90 - len(stored(run))
    assert udr("feedback", "export", run)[0] == 0 and f"{lost} pairs are not scored yet" in caplog.text
    assert score(run, lambda *_: False)[0] == 0
    assert len(stored(run)) == 90


def test_where_no_worker_can_help_the_runner_is_refused(udr: Udr, tasks: Path, tmp_path: Path) -> None:
    command = ["feedback", "score", tasks, "--out", tmp_path / "run"]
    server = ["--lm", "http://127.0.0.1:9/v1?model=m"]
    assert_refused(udr(*command, *server, "--runner", "ray"), 2, "scores come from the server http://127.0.0.1:9")
    assert_refused(udr(*command, *server, "--workers", 2), 2, "--workers 2 has workers load the model, but scores come")
    assert_refused(udr(*command, "--ray-address", "h:1"), 2, "--ray-address needs --runner ray")
    assert not (tmp_path / "run").exists()


def test_an_address_at_which_no_cluster_answers_is_named(
    udr: Udr, tasks: Path, lm_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    command = ["feedback", "score", tasks, "--lm", lm_folder, "--out", tmp_path / "run", *SIZES, "--runner", "ray"]
    assert_refused(udr(*command, "--ray-address", "127.0.0.1:1"), 2, "no Ray cluster answers at 127.0.0.1:1")
    assert_refused(udr(*command, "--ray-address", "ray://h:1"), 2, "--ray-address must be HOST:PORT or auto")


def test_a_relative_path_names_the_same_model_where_workers_run(
    lm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def elsewhere(_: str, load: LoadLM, identity: str, *__: object) -> Iterator[Scheduler[object, object]]:
        # As of a cluster, which was started in another folder.
        with monkeypatch.context() as there:
            there.chdir(tmp_path)
            assert load()[0] == identity
        yield Scheduler(lambda: FakePool(1, load), identity)

    monkeypatch.setattr("udr_training.feedback.local.scattered.open_workers", elsewhere)
    monkeypatch.chdir(lm_folder.parent)
    with opened_lm(FeedbackConfig(lm=lm_folder.name), RunnerOptions(runner="ray")) as lm:
        assert lm.name == lm_folder.name


def test_a_worker_loads_the_model_that_the_driver_names(lm_folder: Path) -> None:
    load = LoadLM(FeedbackConfig(lm=str(lm_folder)))
    identity, work = load()
    assert identity == load.identity and work(()) == []
