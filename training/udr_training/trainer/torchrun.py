"""Trainings on the processes that torchrun has started, on one machine or many: the first runs the command.

The others wait until it comes to a training, take part in it, and end with the command's last one. Every process reads
the run directory and the models by the same paths.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from torch import distributed

from udr_training.config import torchrun_place
from udr_training.losses import agreed
from udr_training.trainer.processes import log_to, open_group, share_cores


@contextmanager
def leading() -> Iterator[None]:
    """Have the other processes take part in the body's trainings (see ``train_on``), and end after it."""
    _open()
    yield
    # After an error this process ends, and torchrun stops the others.
    agreed(lambda: None)
    distributed.destroy_process_group()


def follow() -> None:
    """Take part in the trainings of the first process until it has no more."""
    log_to(None)
    _open()
    while (training := agreed(lambda: None)) is not None:
        train, arguments = training
        train(*arguments, on_step=lambda *_: None)
    distributed.destroy_process_group()


def _open() -> None:
    share_cores(int(os.environ["LOCAL_WORLD_SIZE"]))
    open_group(*torchrun_place(), int(os.environ["LOCAL_RANK"]))
