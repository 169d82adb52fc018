"""Does any changed file make a reader crash, hang, take memory, or raise anything but an error in one line?

    python benchmarks/fuzz_readers.py --executions 1000000 [--only NAME] [--seed 0] [--out FOLDER] [--disk 100000]

Valid files, written by udr itself, are changed at random: bytes, structure, numbers, nesting, schemas, checksums. Every
reading must succeed or raise a ``UdrError`` with a message of one line, in a second of processor time and a gigabyte of
memory. Readers that need a folder of files get ``--disk`` executions. Executions are numbered, and each depends only on
its number and the seed; FOLDER keeps how far each reader is, so that the same command goes on, and an input and a
traceback for each failure. Prints a Markdown table; the exit status is 1 if there was a failure.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fuzz_targets import Target, targets

from udr.errors import UdrError

CHUNK = 5_000
SECONDS = 1.0
MEMORY = 1 << 30
LONGEST_MESSAGE = 20_000


@dataclass
class Tally:
    """What has happened to one reader so far."""

    done: int = 0
    accepted: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    grown: int = 0  # bytes of memory, over a chunk
    failures: dict[str, int] = field(default_factory=dict)  # the first number of each kind


def fuzz(name: str, target: Target, tally: Tally, executions: int, seed: int, out: Path) -> Iterator[Tally]:
    """Go on until a reader has this many executions; a child process runs them, since they may crash.

    An execution that takes too long is run again, since the machine may have stood still. Yields the tally from time to
    time, to be saved.
    """
    again = -1
    while tally.done < executions:
        stop = min(executions, tally.done + CHUNK)
        progress = out / "progress"
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            # Whatever happens, the child must not go on as its parent.
            status = 1
            try:
                os.close(reader)
                status = _run(name, target, range(tally.done, stop), seed, progress, writer)
            finally:
                os._exit(status)
        os.close(writer)
        with os.fdopen(reader) as stream:
            result = stream.read()
        _, status = os.waitpid(child, 0)
        if result and status == 0:
            chunk = json.loads(result)
            tally.done = stop
            tally.accepted += chunk["accepted"]
            tally.seconds += chunk["seconds"]
            tally.slowest, tally.grown = max(tally.slowest, chunk["slowest"]), max(tally.grown, chunk["grown"])
            for kind, number in chunk["failures"].items():
                _keep(out, name, target, seed, number, kind, chunk["traces"][kind], tally)
        else:
            number = int(progress.read_text())
            sign = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {status}"
            if sign == "SIGPROF" and number != again:
                again = tally.done = number
                continue
            kind = f"more than {SECONDS:g} s" if sign == "SIGPROF" else f"crash: {sign}"
            _keep(out, name, target, seed, number, kind, "", tally)
            tally.done = number + 1
        yield tally


def _keep(out: Path, name: str, target: Target, seed: int, number: int, kind: str, trace: str, tally: Tally) -> None:
    if kind not in tally.failures:
        tally.failures[kind] = number
        (out / f"{name}-{number}.input").write_bytes(target.make(_generator(name, seed, number)))
        (out / f"{name}-{number}.txt").write_text(f"{kind}\n{trace}")
        print(f"{name}: execution {number}: {kind}", file=sys.stderr)


def _generator(name: str, seed: int, number: int) -> random.Random:
    return random.Random(zlib.crc32(name.encode()) << 64 | seed << 40 | number)


def _run(name: str, target: Target, numbers: range, seed: int, progress: Path, writer: int) -> int:
    memory = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (memory + MEMORY, memory + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    accepted, slowest, failures, traces = 0, 0.0, dict[str, int](), dict[str, str]()
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with progress.open("r+b" if progress.exists() else "w+b", buffering=0) as place:
        for number in numbers:
            data = target.make(_generator(name, seed, number))
            os.pwrite(place.fileno(), b"%020d" % number, 0)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            begun = time.process_time()
            kind = trace = ""
            try:
                target.read(data)
                accepted += 1
            except UdrError as error:
                message = str(error)
                if "\n" in message or len(message) > LONGEST_MESSAGE:
                    kind, trace = f"{type(error).__name__}: a message of many lines or too long", message[:2000]
            except BaseException as error:
                frame = traceback.extract_tb(error.__traceback__)[-1]
                kind = f"{type(error).__name__} in {Path(frame.filename).name}:{frame.lineno}"
                trace = traceback.format_exc()
            signal.setitimer(signal.ITIMER_PROF, 0)
            slowest = max(slowest, time.process_time() - begun)
            if kind and kind not in failures:
                failures[kind], traces[kind] = number, trace
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    result = {"accepted": accepted, "slowest": slowest, "failures": failures, "traces": traces, "grown": grown}
    with os.fdopen(writer, "w") as stream:
        json.dump({**result, "seconds": time.perf_counter() - started}, stream)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executions", type=int, default=20_000)
    parser.add_argument("--disk", type=int, help="for readers that need a folder; a tenth by default")
    parser.add_argument("--only", metavar="NAME")
    parser.add_argument("--skip-model", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("fuzzed"))
    arguments = parser.parse_args()
    disk = arguments.executions // 10 if arguments.disk is None else arguments.disk
    arguments.out.mkdir(parents=True, exist_ok=True)
    state = arguments.out / f"state-{arguments.seed}.json"
    tallies = {name: Tally(**tally) for name, tally in json.loads(state.read_text()).items()} if state.exists() else {}

    # In memory, if the system has such a place.
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    try:
        every = targets(folder, with_model=not arguments.skip_model).items()
        chosen = {name: target for name, target in every if arguments.only in (None, name)}
        for name, target in chosen.items():
            executions = disk if target.disk else arguments.executions
            tally = tallies.setdefault(name, Tally())
            for _ in fuzz(name, target, tally, executions, arguments.seed, arguments.out):
                state.write_text(json.dumps({name: asdict(tally) for name, tally in tallies.items()}, indent=1))
    finally:
        shutil.rmtree(folder)
    print("| reader | executions | accepted | a second | slowest | memory | failures |\n|---|---|---|---|---|---|---|")
    for name in chosen:
        tally = tallies[name]
        rate = tally.done / tally.seconds if tally.seconds else 0
        print(
            f"| {name} | {tally.done:,} | {tally.accepted / max(1, tally.done):.0%} | {rate:,.0f} "
            f"| {1000 * tally.slowest:.0f} ms | +{tally.grown / 2**20:.0f} MiB | {len(tally.failures)} |"
        )
    return 1 if any(tallies[name].failures for name in chosen) else 0


if __name__ == "__main__":
    sys.exit(main())
