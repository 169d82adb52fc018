"""A training that was cut short goes on as if it had not been."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.small_trainings import TEXTS, interrupted_at, metrics, never_better, trained, unwatched
from udr_training.config import TrainConfig
from udr_training.losses import CandidateLoss
from udr_training.trainer import TaskExamples, last_whole


def test_a_training_that_is_cut_short_keeps_its_patience(
    brought: dict[str, TaskExamples], config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_better(monkeypatch)
    patient = replace(config, epochs=20, patience=2)
    trained(brought, patient, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(CandidateLoss, "forward", interrupted_at(10))
        with pytest.raises(KeyboardInterrupt):
            trained(brought, patient, tmp_path / "cut")
    trained(brought, patient, tmp_path / "cut")
    assert metrics(tmp_path / "cut") == metrics(tmp_path / "whole")


def test_a_checkpoint_that_is_not_whole_is_passed_over(
    brought: dict[str, TaskExamples], config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = tmp_path / "run" / "checkpoints"
    with monkeypatch.context() as patch:
        patch.setattr(CandidateLoss, "forward", interrupted_at(7))
        with pytest.raises(KeyboardInterrupt):
            trained(unwatched(brought), config, tmp_path / "run")
    found = sorted(int(path.name.rpartition("-")[2]) for path in checkpoints.glob("checkpoint-*"))
    assert len(found) == 2
    last = last_whole(checkpoints, config.model)
    assert last is not None and last.name == f"checkpoint-{found[1]}"
    # As if a kill had come while it was deleted, or before it was marked.
    (last / "1_Pooling" / "config.json").unlink()
    before = last_whole(checkpoints, config.model)
    assert before is not None and before.name == f"checkpoint-{found[0]}"
    (before / "files.json").unlink()
    assert last_whole(checkpoints, config.model) is None


def test_adapters_go_on_where_the_run_was_moved(
    brought: dict[str, TaskExamples], config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    adapted = replace(config, lora_rank=2)
    shutil.copytree(config.model, tmp_path / "before" / "start")
    with monkeypatch.context() as patch:
        patch.setattr(CandidateLoss, "forward", interrupted_at(7))
        with pytest.raises(KeyboardInterrupt):
            trained(brought, adapted, tmp_path / "before" / "run", str(tmp_path / "before" / "start"))
    (tmp_path / "before").rename(tmp_path / "after")
    start = str(tmp_path / "after" / "start")
    model = trained(brought, adapted, tmp_path / "after" / "run", start)
    whole = trained(brought, adapted, tmp_path / "whole", start)
    np.testing.assert_array_equal(model.encode(TEXTS), whole.encode(TEXTS))


def test_what_was_told_after_the_last_checkpoint_is_told_again(
    brought: dict[str, TaskExamples], config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(CandidateLoss, "forward", interrupted_at(7))
        with pytest.raises(KeyboardInterrupt):
            trained(brought, config, tmp_path / "run")
    # The run is moved, and the log has half a line.
    (tmp_path / "run").rename(tmp_path / "moved")
    with (tmp_path / "moved" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')
    model = trained(brought, config, tmp_path / "moved")
    whole = trained(brought, config, tmp_path / "whole")
    assert metrics(tmp_path / "moved") == metrics(tmp_path / "whole")
    np.testing.assert_array_equal(model.encode(TEXTS), whole.encode(TEXTS))
