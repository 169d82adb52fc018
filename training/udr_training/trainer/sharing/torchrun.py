"""Trainings on the processes that torchrun has started, on one machine or many: the first runs the command.

The others wait until it comes to a training, take part in it, and end with the command's last one. Every process reads
the run directory and the models by the same paths.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from torch import distributed

from udr.errors import TrainingError, reason
from udr_training.config import torchrun_place
from udr_training.losses import agreed
from udr_training.trainer.sharing.processes import log_to, open_group, share_cores


@contextmanager
def leading() -> Iterator[None]:
    """Have the other processes take part in the body's trainings (see ``train_on``), and end after it."""
    _open()
    with _naming_lost():
        yield
        # After an error this process ends, and torchrun stops the others.
        agreed(lambda: None)
    distributed.destroy_process_group()


def follow() -> None:
    """Take part in the trainings of the first process until it has no more."""
    log_to(None)
    _open()
    with _naming_lost():
        while (training := agreed(lambda: None)) is not None:
            train, arguments = training
            train(*arguments, on_step=lambda *_: None)
    distributed.destroy_process_group()


@contextmanager
def _naming_lost() -> Iterator[None]:
    """Say in place of gloo's and nccl's errors that another process is gone."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and "gloo" not in str(error):
            raise
        raise TrainingError(
            "another process that torchrun has started does not answer, so the training stopped; run the same command "
            f"again to resume it: {reason(error)}"
        ) from error


def _open() -> None:
    share_cores(int(os.environ["LOCAL_WORLD_SIZE"]))
    open_group(*torchrun_place(), int(os.environ["LOCAL_RANK"]))
