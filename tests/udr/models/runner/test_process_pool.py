"""Processes of this machine as workers: results as of one process, and deaths that cost a try."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.udr.models.runner.squares import Result, Squares
from udr.errors import ModelError
from udr.models import RunnerOptions, Scheduler, Shard, open_workers


@pytest.fixture
def scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scheduler[int, Result]]:
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    load = Squares(tmp_path)
    with open_workers("test", load, load.identity, RunnerOptions(workers=2), "cpu") as scheduler:
        yield scheduler


def shards(numbers: range) -> list[Shard[int]]:
    return [Shard(str(number), number, (f"row {number}",)) for number in numbers]


def test_deaths_cost_a_try_and_what_fails_each_time_is_named(
    scheduler: Scheduler[int, Result],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "4-1").touch()
    # As of a process that torchrun has started.
    monkeypatch.setenv("RANK", "0")
    done = {item.shard.work: item.result for item in scheduler.run(shards(range(20)))}
    assert {number: result[0] for number, result in done.items()} == {n: n * n for n in range(20) if n != 13}
    assert {result[1:3] for result in done.values()} == {("3", False)}
    assert "part 4 failed and is tried again: " in caplog.text
    assert "died: it was ended by SIGKILL: out of memory" in caplog.text
    (failure,) = scheduler.failures
    assert failure.rows == ("row 13",) and failure.reason.endswith("ValueError: 13 has no square")
    # An idle worker that died is replaced when there is work for it.
    last = list(done.values())[-1][3]
    assert last != os.getpid()
    os.kill(last, signal.SIGKILL)
    assert {item.shard.work for item in scheduler.run(shards(range(20, 24)))} == {20, 21, 22, 23}


def test_another_model_is_refused_and_no_process_is_left(tmp_path: Path) -> None:
    with (
        open_workers("test", Squares(tmp_path), "cubes", RunnerOptions(workers=2), "cpu") as scheduler,
        pytest.raises(ModelError, match=r"holds squares, udr .*, but this process cubes"),
    ):
        list(scheduler.run(shards(range(2))))
