"""A training that was small.interrupted resumes as if it had not been."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.trainer import small_trainings as small
from udr_training.config import TrainConfig
from udr_training.trainer import last_complete


def test_a_resumed_training_keeps_its_patience(
    examples: small.Tasks, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.never_better(monkeypatch)
    patient = replace(config, epochs=20, patience=1)
    small.trained(examples, patient, tmp_path / "whole")
    small.interrupted(examples, patient, tmp_path / "cut", 6, monkeypatch)
    small.trained(examples, patient, tmp_path / "cut")
    assert small.metrics(tmp_path / "cut") == small.metrics(tmp_path / "whole")


def test_a_resumed_training_is_compared_with_the_encoder_before_its_first_step(
    examples: small.Tasks,
    config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    small.never_better(monkeypatch, first=0.75)
    small.interrupted(examples, config, tmp_path, 6, monkeypatch)
    assert small.metrics(tmp_path)[0]["ndcg"]["mean"] == 0.75 and "mean NDCG" not in caplog.text
    small.trained(examples, config, tmp_path)
    assert "its mean NDCG is 0.5000, and was 0.7500; " in caplog.text


def test_incomplete_checkpoints_are_skipped(
    examples: small.Tasks, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.interrupted(small.without_validation(examples), replace(config, epochs=1), tmp_path, 4, monkeypatch)
    checkpoints = tmp_path / "checkpoints"
    before, last = sorted(checkpoints.glob("checkpoint-*"))
    assert last_complete(checkpoints, config.model) == last
    # As if a kill had come while the last one was deleted, or before the files of the other were listed.
    (last / "1_Pooling" / "config.json").unlink()
    assert last_complete(checkpoints, config.model) == before
    (before / "files.json").unlink()
    assert last_complete(checkpoints, config.model) is None


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_a_moved_run_resumes_to_the_same_model_and_log(
    examples: small.Tasks, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora_rank: int
) -> None:
    if lora_rank:
        pytest.importorskip("peft")
    config = replace(config, lora_rank=lora_rank, epochs=1)
    shutil.copytree(config.model, tmp_path / "before" / "start")
    small.interrupted(examples, config, tmp_path / "before" / "run", 4, monkeypatch, str(tmp_path / "before" / "start"))
    (tmp_path / "before").rename(tmp_path / "after")
    # The kill left half a line.
    with (tmp_path / "after" / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    start = str(tmp_path / "after" / "start")
    resumed, whole = (small.trained(examples, config, tmp_path / name, start) for name in ("after/run", "whole"))
    assert small.metrics(tmp_path / "after" / "run") == small.metrics(tmp_path / "whole")
    np.testing.assert_array_equal(resumed.encode(small.TEXTS), whole.encode(small.TEXTS))
