"""Training on several processes of this machine, one per GPU, or sharing its cores.

For each training the command's own process starts N processes, which share every batch (see ``TaskBatchSampler`` and
``gathered``) and end with it. The first of them writes checkpoints, metrics and the model, reports progress and logs;
validation is split over all (by Sentence Transformers). If one of them ends early, the others are stopped. Without GPUs
they connect over 127.0.0.1.
"""

import logging
import logging.handlers
import os
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import distributed
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from udr.errors import TrainingError, UdrError
from udr_training.config import silence_libraries
from udr_training.losses import agreed, num_processes

_LOG = logging.getLogger(__name__)

# It does not type what starts processes.
_torch: Any = torch

_TIMEOUT = timedelta(days=100)
"""How long a process waits for the others, as while the first one scores; one that ended is noticed at once, but not a
machine that lost its power."""

_LOOPBACK = {"linux": "lo", "darwin": "lo0"}

OnStep = Callable[[int, int], None]


def train_on(count: int, train: Callable[..., None], *arguments: object, on_step: OnStep) -> None:
    """Call a training here, or on several processes.

    Args:
        count: the processes; 1 is this one.
        train: a function of a module; called with the arguments and with ``on_step``.
        *arguments: can be pickled.
        on_step: called with the steps done and all steps, in this process.

    Raises:
        TrainingError: a process ended early, or failed with an unexpected error.
        UdrError: the training's own.
    """
    if num_processes() > 1:
        # Of torchrun, which wait for it.
        agreed(lambda: (train, arguments))
    if count == 1 or num_processes() > 1:
        train(*arguments, on_step=on_step)
        return
    _LOG.info("training on %d processes...", count)
    with TemporaryDirectory(prefix="udr-") as folder:
        _train_apart(count, Path(folder, "store"), train, arguments, on_step)


def _train_apart(
    count: int, store: Path, train: Callable[..., None], arguments: Sequence[object], on_step: OnStep
) -> None:
    pipes = [get_context("spawn").Pipe(duplex=False) for _ in range(count)]
    readers, writers = [pipe[0] for pipe in pipes], [pipe[1] for pipe in pipes]
    passed = (count, str(store), writers, train, arguments)
    group = _torch.multiprocessing.spawn(_run, passed, nprocs=count, join=False)
    for writer in writers:
        writer.close()
    failures = list[UdrError]()
    try:
        while not group.join(timeout=0.2):
            failures += _received(readers, on_step)
        _received(readers, on_step)
    except (ProcessExitedException, ProcessRaisedException) as error:
        failures += _received(readers, on_step)
        raise (failures[0] if failures else _failure(error, group.processes)) from error
    finally:
        _stop(group.processes)
        for reader in readers:
            reader.close()


def _failure(error: ProcessExitedException | ProcessRaisedException, processes: Sequence[Any]) -> TrainingError:
    ends = {number: process.exitcode or 0 for number, process in enumerate(processes)}
    # The others fail as one is killed, and may be found first. These are what the others are stopped by after that, or
    # stop themselves by (nccl).
    after = (-signal.SIGTERM, -signal.SIGABRT)
    killed = (number for number, code in ends.items() if code < 0 and code not in after)
    number = next(killed, error.error_index)
    process = f"training process {number + 1} of {len(processes)}"
    if number == error.error_index and isinstance(error, ProcessRaisedException):
        last = str(error).strip().splitlines()[-1]
        return TrainingError(f"{process} failed: {last}; mend the cause, and run the same command again to resume it")
    code = ends[number]
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    return TrainingError(f"{process} {how}, so the training stopped; run the same command again to resume it")


def _stop(processes: Sequence[Any]) -> None:
    for process in processes:
        if process.is_alive():
            process.terminate()
    for process in processes:
        process.join()


def _received(readers: Sequence[Connection], on_step: OnStep) -> list[UdrError]:
    """Handle what the processes have sent; return the errors."""
    failures = []
    for reader in readers:
        try:
            while reader.poll():
                sent = reader.recv()
                if isinstance(sent, logging.LogRecord):
                    logging.getLogger(sent.name).handle(sent)
                elif isinstance(sent, UdrError):
                    failures.append(sent)
                else:
                    on_step(*sent)
        except (EOFError, OSError):
            # It has ended, and closed its end.
            continue
    return failures


def _run(
    rank: int,
    count: int,
    store: str,
    writers: Sequence[Connection],
    train: Callable[..., None],
    arguments: Sequence[object],
) -> None:
    """Train in one process of the group."""
    pipe = writers[rank]
    log_to(pipe if rank == 0 else None)
    share_cores(count)
    # What the trainer reads.
    os.environ |= {name: str(rank) for name in ("RANK", "LOCAL_RANK")}
    os.environ |= {name: str(count) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")}
    if sys.platform in _LOOPBACK:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", _LOOPBACK[sys.platform])
    # A store on a port would listen to other machines, too.
    open_group(rank, count, rank, _torch.distributed.FileStore(store, count))
    try:
        train(*arguments, on_step=(lambda *steps: pipe.send(steps)) if rank == 0 else lambda *_: None)
    except UdrError as error:
        pipe.send(error)
        sys.exit(1)
    distributed.destroy_process_group()


def open_group(rank: int, count: int, gpu: int, store: Any = None) -> None:  # noqa: ANN401
    """Open the group of processes: nccl between GPUs, gloo between processors; None is the store of the environment."""
    if torch.cuda.is_available():
        torch.cuda.set_device(gpu)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=_TIMEOUT)


def share_cores(count: int) -> None:
    """Compute with as many threads as leave cores to the other processes."""
    threads = max(1, torch.get_num_threads() // count)
    # Accelerate would set another number.
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    torch.set_num_threads(threads)


def log_to(pipe: Connection | None) -> None:
    """Send our own log, and others' warnings, to the process that waits; None drops them."""
    silence_libraries()
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    root.handlers = [logging.NullHandler() if pipe is None else _Sender(pipe)]
    for package in ("udr", "udr_training"):
        logging.getLogger(package).setLevel(logging.INFO)


class _Sender(logging.handlers.QueueHandler):
    def __init__(self, pipe: Any) -> None:  # noqa: ANN401
        super().__init__(pipe)

    def enqueue(self, record: logging.LogRecord) -> None:
        pipe: Any = self.queue
        pipe.send(record)
