"""What serving takes, with the encoder that the index carries and without it: time to start, memory, disk.

    python benchmarks/footprint.py --out FOLDER [--rows N] [--rounds N]

Builds two indexes of the same generated rows (``service_made_up.py``), one with the encoder for ONNX Runtime
(``carried``) and one without it (``loaded``), and lets them take turns:

- ``ready``: from the start of ``udr serve`` until ``/readyz`` succeeds, with the files in the system's cache, and its
  resident memory after 1,000 requests;
- ``open``: from the start of an interpreter until ``Retriever.open`` returns;
- ``installed``: the size of the packages that extras of this installation require, themselves and what they require.

Prints a JSON line per part and keeps it in FOLDER; existing results are not measured again.
"""

import re
import subprocess
import sys
import time
from dataclasses import replace
from importlib.metadata import Distribution, distribution
from pathlib import Path

from measuring import measured_once, median, parser
from packaging.requirements import Requirement
from service_made_up import MadeUp, made_up, request_of
from service_running import serving

from udr_index.build import BuildConfig, build

_REQUESTS = 1000
_EXTRAS = ("service,cpu", "index,cpu", "all,cpu")
_OPEN = "import sys; from udr import Retriever; Retriever.open(sys.argv[1], device='cpu')"

Sides = dict[str, MadeUp]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--rows", type=int, default=10_000)
    options.add_argument("--rounds", type=int, default=5)
    arguments = options.parse_args()
    folder: Path = arguments.out
    folder.mkdir(parents=True, exist_ok=True)
    sides, rounds = _sides(folder, arguments.rows), arguments.rounds
    measured_once(folder / "ready.json", lambda: {"part": "ready", "rows": arguments.rows, **_ready(sides, rounds)})
    measured_once(folder / "open.json", lambda: {"part": "open", "rows": arguments.rows, **_opened(sides, rounds)})
    measured_once(folder / "installed.json", lambda: {"part": "installed", **_installed()})


def _sides(folder: Path, rows: int) -> Sides:
    carried = made_up(folder, rows)
    index = folder / "loaded"
    config = BuildConfig(tasks=folder / "tasks-1", out=index, device="cpu", reuse=carried.index, export=False)
    build(config)
    return {"loaded": replace(carried, index=index), "carried": carried}


def _ready(sides: Sides, rounds: int) -> dict[str, object]:
    times: dict[str, list[float]] = {name: [] for name in sides}
    memory: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, side in sides.items():
            with serving(side.index) as server:
                times[name].append(server.cold_seconds)
                for number in range(_REQUESTS):
                    server.post("/v1/retrieve", request_of(number))
                memory[name].append(server.resident_mib)
    # The first round fills the system's cache.
    return {
        name: {"seconds": median(times[name][1:], 2), "resident_mib": median(memory[name][1:], 0)} for name in sides
    }


def _opened(sides: Sides, rounds: int) -> dict[str, object]:
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, side in sides.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", _OPEN, str(side.index)], check=True)
            times[name].append(time.perf_counter() - started)
    return {name: {"seconds": median(values[1:], 2)} for name, values in times.items()}


def _installed() -> dict[str, object]:
    return {extras: {"packages": len(found := _required(extras)), "mb": _megabytes(found)} for extras in _EXTRAS}


def _megabytes(found: dict[str, Distribution]) -> float:
    paths = (Path(str(item.locate_file(file))) for item in found.values() for file in item.files or ())
    return round(sum(path.stat().st_size for path in paths if path.is_file()) / 1e6)


def _required(extras: str) -> dict[str, Distribution]:
    """Return the installed packages that ``udr-icl`` with these extras requires, by name."""
    found, waiting, seen = dict[str, Distribution](), [Requirement(f"udr-icl[{extras}]")], set[str]()
    while waiting:
        asked = waiting.pop()
        if str(asked) not in seen:
            seen.add(str(asked))
            name = re.sub(r"[-_.]+", "-", asked.name).lower()
            found[name] = distribution(name)
            requirements = map(Requirement, found[name].requires or ())
            waiting += [
                item
                for item in requirements
                if item.marker is None
                or any(item.marker.evaluate({"extra": extra}) for extra in (asked.extras or {""}))
            ]
    return found


if __name__ == "__main__":
    main()
