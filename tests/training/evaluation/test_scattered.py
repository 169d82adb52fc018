"""An evaluation whose language model is held by workers: the files of one process, whatever dies."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from tests.training.conftest import Udr, assert_refused
from tests.training.feedback.test_scattered import Dies, fake_workers
from udr.data import open_collection
from udr.errors import PartialError
from udr_training.config import FeedbackConfig
from udr_training.evaluation import Evaluation, EvaluationConfig, evaluate
from udr_training.feedback.local import LoadLM, ScatteredCausalLM

Evaluate = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(udr: Udr, tasks: Path, lm_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluate:
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


def first_kills() -> Dies:
    """The first shard kills every worker that does it."""
    deadly = list[str]()

    def dies(number: int, key: str) -> bool:
        deadly[:] = deadly or [key]
        return key in deadly

    return dies


def test_workers_that_die_leave_the_answers_of_one_process(
    command: Evaluate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    status, table, _ = command(tmp_path / "here")
    assert status == 0
    deaths = list[str]()

    def dies(number: int, key: str) -> bool:
        # Each worker dies of the first shard that it gets, and of none after that.
        if len(deaths) < 2 and key not in deaths:
            deaths.append(key)
            return True
        return False

    status, out, err = command(tmp_path / "there", dies)
    assert (status, out) == (0, table), err
    assert caplog.text.count("failed and is tried again: the worker on node-") == 2
    # Answers to three tasks, one of them generated, with two retrievers.
    assert written(tmp_path / "there") == written(tmp_path / "here") and len(written(tmp_path / "here")) == 8
    assert "workers, each " in err


def test_prompts_that_fail_each_time_are_named_and_a_later_call_answers_them(command: Evaluate, tmp_path: Path) -> None:
    command(tmp_path / "here")
    status, _, err = command(tmp_path / "there", first_kills())
    last = err.strip().splitlines()[-1]
    assert status == 4 and "4 prompts failed on every try, the last time with: " in last and "...Thing: " in last
    assert command(tmp_path / "there", lambda *_: False)[0] == 0
    assert written(tmp_path / "there") == written(tmp_path / "here")


def test_a_prompt_that_kills_every_worker_costs_its_block_alone(tasks: Path, lm_folder: Path, tmp_path: Path) -> None:
    load = LoadLM(FeedbackConfig(lm=str(lm_folder)))
    config = EvaluationConfig(retrievers=("random", "oracle"), shots=(2,), oracle_candidates=3)

    def evaluated(name: str, dies: Dies) -> Evaluation:
        with fake_workers(dies, load) as workers:
            lm = ScatteredCausalLM(load.config, cast("Any", workers))
            return evaluate(open_collection(tasks), lm, config, output=tmp_path / name, block=2)

    whole = evaluated("whole", lambda *_: False)
    with pytest.raises(PartialError, match="missing of colours with 2 demonstrations of random: 2 prompts failed on"):
        evaluated("cut", first_kills())
    files = {name: text.splitlines() for name, text in written(tmp_path / "whole").items() if "predictions" in name}
    stored = {name: written(tmp_path / "cut")[name].splitlines() for name in files}
    first = "predictions/colours/random.2-shot.jsonl"
    assert len(files) == 6 and [len(lines) for lines in files.values()] == [5] * 6
    # The settings of the file, and the second of its two blocks.
    assert stored == files | {first: [files[first][0], *files[first][3:]]}
    assert evaluated("cut", lambda *_: False).to_json() == whole.to_json()
    assert written(tmp_path / "cut") == written(tmp_path / "whole")


def test_a_server_answers_without_workers(udr: Udr, tasks: Path, tmp_path: Path) -> None:
    server = ["--lm", "http://127.0.0.1:9/v1?model=m&api=chat", "--retrievers", "random", "--runner", "ray"]
    assert_refused(udr("evaluate", tasks, *server), 2, "answers come from the server http://127.0.0.1:9")
