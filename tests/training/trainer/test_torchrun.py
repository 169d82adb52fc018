"""A training on the processes of torchrun: gradients and weights of one command, and a process that is killed."""

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import Udr
from tests.training.trainer.group_training import assert_same_records, nothing, record_gradients
from tests.training.trainer.small_trainings import metrics
from tests.udr.models.tiny_encoders import save_architecture
from udr.errors import TrainingError
from udr_training.config import TrainConfig
from udr_training.trainer import leading, train_on

pytestmark = pytest.mark.timeout(600)

COMMAND = "import sys; from udr.cli import main; sys.exit(main())"

RECORD = """
import os, pathlib, pickle, sys
from tests.training.trainer.group_training import nothing, record_gradients
from udr_training.trainer import follow, leading, train_on

if os.environ["RANK"] == "0":
    with leading():
        arguments = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())
        train_on(2, record_gradients, *arguments, on_step=nothing)
else:
    follow()
"""


@contextmanager
def torchrun(program: str, folder: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run a program on two processes, whose output is in files of the folder, and wait for its end."""
    script, paths = folder / "program.py", os.environ.get("PYTHONPATH", "")
    script.write_text(program, "utf-8")
    rdzv = "--nproc-per-node 2 --rdzv-backend c10d --rdzv-endpoint 127.0.0.1:0 --local-addr 127.0.0.1"
    # A survivor has the time to say what it lacks, before torchrun sees that a process is gone, and stops it.
    options = [*rdzv.split(), "--monitor-interval", "10"]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[3]), paths]),
    }
    command = [sys.executable, "-m", "torch.distributed.run", *options, str(script), *map(str, arguments)]
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, text=True, env=environment)
    try:
        yield process
        process.wait()
    finally:
        # It stops its own processes.
        process.terminate()
        process.wait(30)


def test_under_torchrun_a_process_that_is_gone_is_named_in_place_of_an_error_of_gloo(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("udr_training.trainer.sharing.torchrun.open_group", lambda *_: None)
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    lost = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:4242"
    for error in (RuntimeError(lost), torch.distributed.DistNetworkError("no route to host")):
        with (
            pytest.raises(TrainingError, match=f"run the same command again to resume it: {re.escape(str(error))}"),
            leading(),
        ):
            raise error
    with pytest.raises(RuntimeError, match="out of memory"), leading():
        raise RuntimeError("CUDA out of memory")


def test_a_dry_run_waits_for_no_other_process_of_torchrun(
    udr: Udr, command: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without the address of the group: joining it is an error.
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert udr(*command, "--out", tmp_path / "run", "--dry-run") == (0, "", "")


@pytest.mark.slow
def test_loss_and_gradients_of_a_shared_batch_equal_those_of_one_process(config: TrainConfig, tmp_path: Path) -> None:
    one, two, given = (tmp_path / name for name in ("one", "two", "given"))
    decoder = save_architecture(tmp_path / "decoder", "qwen3")
    train_on(1, record_gradients, config, decoder, one, on_step=nothing)
    given.write_bytes(pickle.dumps((config, decoder, two)))
    with torchrun(RECORD, tmp_path, given) as started:
        pass
    assert started.returncode == 0, (tmp_path / "err").read_text("utf-8")
    assert_same_records(one, two)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", ["", "--set train.fsdp=true", "--set train.tensor_parallel=2 --set train.iterations=2"]
)
def test_the_processes_of_torchrun_train_as_those_of_the_command(
    udr: Udr, command: list[object], tmp_path: Path, settings: str
) -> None:
    if "tensor" in settings:
        command = [*command, "--model", save_architecture(tmp_path / "decoder", "qwen3")]
    one, two = tmp_path / "torchrun", tmp_path / "command"
    with torchrun(COMMAND, tmp_path, *command, "--out", one, *settings.split()) as started:
        pass
    assert started.returncode == 0, (tmp_path / "err").read_text("utf-8")
    assert (tmp_path / "out").read_text("utf-8") == f"{one / 'model'}\n"
    status, _, err = udr(*command, "--out", two, "--processes", 2, *settings.split())
    assert status == 0, err
    assert_same_weights(one, two, atol=1e-6)


@pytest.mark.slow
def test_a_killed_process_ends_the_job_which_resumes_to_the_same_weights(
    udr: Udr, command: list[object], tmp_path: Path
) -> None:
    whole, run, longer = tmp_path / "whole", tmp_path / "run", ["--set", "train.epochs=12"]
    assert udr(*command, *longer, "--out", whole, "--processes", 2)[0] == 0
    with torchrun(COMMAND, tmp_path, *command, *longer, "--out", run) as started:
        while started.poll() is None and not list(run.glob("iteration-0/checkpoints/checkpoint-*/files.json")):
            time.sleep(0.05)
        assert started.poll() is None, (tmp_path / "err").read_text("utf-8")
        os.kill(process_of(started.pid, "1"), signal.SIGKILL)
    err = (tmp_path / "err").read_text("utf-8")
    assert started.returncode == 1 and "run the same command again to resume" in err, err
    assert "step 0 of " in err and not (run / "model").exists()
    with torchrun(COMMAND, tmp_path, *command, *longer, "--out", run) as started:
        pass
    err = (tmp_path / "err").read_text("utf-8")
    assert started.returncode == 0 and "step 0 of " not in err, err
    assert_same_weights(run, whole, atol=1e-6)
    steps, expected = ([line["step"] for line in metrics(each / "iteration-0")] for each in (run, whole))
    assert steps == expected


def process_of(parent: int, rank: str) -> int:
    """The process of torchrun with a rank."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text("utf-8").split()
    ranks = {Path(f"/proc/{child}/environ").read_bytes().partition(b"\0RANK=")[2][:1]: int(child) for child in children}
    return ranks[rank.encode()]


def assert_same_weights(one: Path, two: Path, atol: float) -> None:
    weights = [load_file(run / "model" / "model.safetensors") for run in (one, two)]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, atol=atol, rtol=0)
