"""Workers that are processes of this machine, as the scheduler's pool: each has a GPU, or a share of the cores."""

import logging
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing import Pipe, connection
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from udr.errors import ConfigError
from udr.models.device import num_gpus, num_threads
from udr.models.runner.scheduler import Answer, Hello, Lost
from udr.models.runner.shards import Load, Shard
from udr.models.runner.worker import ModelWorker

_END_SECONDS = 5.0

_OF_A_GROUP = ("RANK", "WORLD_SIZE", "TORCHELASTIC_", "MASTER_", "LOCAL_", "GROUP_", "ROLE_")
"""Variables that torchrun sets; workers do not get them, since they do not belong to its group."""

# Not by multiprocessing, which would run the command's own script in each of them.
_PROGRAM = "import sys; from udr.models.runner.process_pool import serve; serve(int(sys.argv[1]))"


@dataclass
class _Process:
    """A worker: its process, the pipe to it, what it has to do, and the tickets of that; the first is under way."""

    process: subprocess.Popen[bytes]
    pipe: Connection
    tickets: deque[int]
    waiting: deque[Any] = field(default_factory=deque)


class ProcessPool:
    """Processes of this machine.

    Args:
        load: loads a worker's model; it is unpickled there.
        size: how many.
        device: what they compute on; of ``cuda``, each sees one GPU alone.

    Raises:
        ConfigError: there are fewer GPUs than processes.
    """

    def __init__(self, load: Load[Any, Any], size: int, device: str) -> None:
        self.size, self._load, self._gpus = size, load, _gpus(size) if device.startswith("cuda") else []
        self._threads = max(1, num_threads() // size)
        self._processes: dict[int, _Process] = {}
        self._numbers = count()
        self._folder = TemporaryDirectory(prefix="udr-workers-")

    def start(self, number: int) -> Hashable:
        """See ``Pool``."""
        ours, theirs = Pipe()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_OF_A_GROUP)}
        environment |= {"OMP_NUM_THREADS": str(self._threads), "PYTHONPATH": os.pathsep.join(sys.path)}
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[number]
        # Libraries write what they like, among it why they end the process.
        with self._log(number).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno())],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
            )
        theirs.close()
        self._processes[number] = _Process(process, ours, deque([next(self._numbers)]))
        _send(ours, self._load)
        return self._processes[number].tickets[0]

    def submit(self, number: int, shard: Shard[Any]) -> Hashable:
        """See ``Pool``."""
        worker, ticket = self._processes[number], next(self._numbers)
        worker.tickets.append(ticket)
        # One at a time: two that both send what fills the pipe would wait for each other.
        if len(worker.tickets) == 1:
            _send(worker.pipe, shard.work)
        else:
            worker.waiting.append(shard.work)
        return ticket

    def wait(self, tickets: Sequence[Hashable], seconds: float) -> list[tuple[Hashable, Hello | Answer | Lost]]:
        """See ``Pool``."""
        busy = {worker.pipe: number for number, worker in self._processes.items() if worker.tickets}
        events = list[tuple[Hashable, Hello | Answer | Lost]]()
        for pipe in connection.wait(list(busy), seconds):
            assert isinstance(pipe, Connection)
            number = busy[pipe]
            worker = self._processes[number]
            try:
                outcome: Hello | Answer | Lost = pipe.recv()
            except (EOFError, OSError):
                outcome = Lost(self._end(number))
            events.append((worker.tickets.popleft(), outcome))
            if worker.waiting and not isinstance(outcome, Lost):
                _send(pipe, worker.waiting.popleft())
        return events

    def describe(self) -> str:
        """See ``Pool``."""
        share = "a GPU each" if self._gpus else f"{self._threads} threads each"
        return f"starting {self.size} processes with {share}"

    def stop(self) -> None:
        """Stop the processes; what they were doing is dropped."""
        for worker in self._processes.values():
            worker.process.terminate()
        for worker in self._processes.values():
            with suppress(subprocess.TimeoutExpired):
                worker.process.wait(_END_SECONDS)
            worker.process.kill()
            worker.process.wait()
            worker.pipe.close()
        self._processes.clear()
        self._folder.cleanup()

    def _end(self, number: int) -> str:
        """Forget a process that has died; return how it ended, and its last words."""
        worker = self._processes.pop(number)
        worker.pipe.close()
        code = worker.process.wait()
        ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        log = self._log(number)
        lines = log.read_text("utf-8", errors="replace").split("\n") if log.is_file() else []
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"it {ended}{last and f': {last[:200]}'}"

    def _log(self, number: int) -> Path:
        return Path(self._folder.name, f"{number}.txt")


def _send(pipe: Connection, item: Any) -> None:  # noqa: ANN401
    # If the worker has died, `wait` says so.
    with suppress(BrokenPipeError, ConnectionResetError):
        pipe.send(item)


def _gpus(size: int) -> list[str]:
    """Return what to call each process's GPU."""
    if (found := num_gpus()) < size:
        raise ConfigError(f"{size} processes need a GPU for each, found {found}; use fewer, or another --device")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[:size] if visible else [str(number) for number in range(size)]


def serve(descriptor: int) -> None:
    """Be a worker, until the pipe is closed, also by the death of the process at its other end."""
    # The command stops its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger().addHandler(logging.StreamHandler())
    pipe, worker = Connection(descriptor), ModelWorker()
    with suppress(EOFError, OSError):
        pipe.send(worker.start(pipe.recv()))
        while True:
            pipe.send(worker.work(pipe.recv()))
