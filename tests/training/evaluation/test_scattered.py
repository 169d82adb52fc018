"""An evaluation whose language model is held by workers: the files of one process, whatever dies."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.conftest import Udr, assert_refused
from tests.training.feedback.test_scattered import Dies, fake_workers

Evaluate = Callable[..., tuple[int, str, str]]


@pytest.fixture
def evaluate(udr: Udr, tasks: Path, lm_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluate:
    """Runs ``udr evaluate``: in this process, or with workers that die of the shards of some calls."""

    def run(output: Path, dies: Dies | None = None) -> tuple[int, str, str]:
        command = ["evaluate", tasks, "--lm", lm_folder, "--retrievers", "random,oracle", "--oracle-candidates", 3]
        runner = [] if dies is None else ["--runner", "ray"]
        if dies is not None:
            workers = "udr_training.feedback.local.scattered.open_workers"
            monkeypatch.setattr(workers, lambda _, load, *__: fake_workers(dies, load))
        return udr(*command, "--shots", 2, "--output", output, *runner)

    return run


def written(output: Path) -> dict[str, bytes]:
    """The answers and the report."""
    files = (path for path in output.rglob("*") if path.suffix in (".jsonl", ".json"))
    return {str(path.relative_to(output)): path.read_bytes() for path in files}


def test_workers_that_die_leave_the_answers_of_one_process(
    evaluate: Evaluate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    status, table, _ = evaluate(tmp_path / "here")
    assert status == 0
    deaths = list[str]()

    def dies(number: int, key: str) -> bool:
        # Each worker dies of the first shard that it gets, and of none after that.
        if len(deaths) < 2 and key not in deaths:
            deaths.append(key)
            return True
        return False

    status, out, err = evaluate(tmp_path / "there", dies)
    assert (status, out) == (0, table), err
    assert caplog.text.count("failed and is tried again: the worker on node-") == 2
    # Answers to three tasks, one of them generated, with two retrievers.
    assert written(tmp_path / "there") == written(tmp_path / "here") and len(written(tmp_path / "here")) == 8
    assert "workers, each " in err


def test_prompts_that_fail_each_time_are_named_and_a_later_call_answers_them(
    evaluate: Evaluate, tmp_path: Path
) -> None:
    evaluate(tmp_path / "here")
    status, _, err = evaluate(tmp_path / "there", lambda *_: True)
    last = err.strip().splitlines()[-1]
    assert status == 4 and "4 prompts failed on every try, the last time with: " in last and "...Thing: " in last
    assert evaluate(tmp_path / "there", lambda *_: False)[0] == 0
    assert written(tmp_path / "there") == written(tmp_path / "here")


def test_a_server_answers_without_workers(udr: Udr, tasks: Path, tmp_path: Path) -> None:
    server = ["--lm", "http://127.0.0.1:9/v1?model=m&api=chat", "--retrievers", "random", "--runner", "ray"]
    assert_refused(udr("evaluate", tasks, *server), 2, "answers come from the server http://127.0.0.1:9")
