"""What serving takes, with the encoder that the index carries and without it: time to start, memory, disk.

    python benchmarks/footprint.py --out FOLDER [--parts NAME,...] [--rows N] [--rounds N]

Builds two indexes of the same generated rows (``service_made_up.py``), one with the encoder for ONNX Runtime
(``carried``) and one without it (``loaded``), and lets them take turns:

- ``ready``: from the start of ``udr serve`` until ``/readyz`` succeeds, with the files in the system's cache, and its
  resident memory after 1,000 requests;
- ``open``: from the start of an interpreter until ``Retriever.open`` returns;
- ``installed``: the size of a fresh environment with the extras ``service`` and ``cpu``, made as in the Dockerfile; and
  of the packages that other extras require, as they are installed here.

Prints a JSON line per part and keeps it in FOLDER; existing results are not measured again.
"""

import re
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib.metadata import Distribution, distribution
from pathlib import Path

from measuring import measured_once, median, parser
from packaging.requirements import Requirement
from service_made_up import MadeUp, made_up, request_of
from service_running import serving

from udr.store import CURRENT
from udr_index.build import BuildConfig, build

_REQUESTS = 1000
_EXTRAS = ("index,cpu", "all,cpu")
_REPOSITORY = Path(__file__).parents[1]
_SOURCES = ("pyproject.toml", "README.md", "LICENSE", "udr", "index", "service", "training")
_OPEN = "import sys; from udr import Retriever; Retriever.open(sys.argv[1], device='cpu')"

Sides = dict[str, MadeUp]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--parts", default="ready,open,installed")
    options.add_argument("--rows", type=int, default=10_000)
    options.add_argument("--rounds", type=int, default=5)
    arguments = options.parse_args()
    folder: Path = arguments.out
    folder.mkdir(parents=True, exist_ok=True)
    rows, rounds = arguments.rows, arguments.rounds
    parts: dict[str, Callable[[], dict[str, object]]] = {
        "ready": lambda: {"rows": rows, **_ready(_sides(folder, rows), rounds)},
        "open": lambda: {"rows": rows, **_opened(_sides(folder, rows), rounds)},
        "installed": lambda: _installed(folder),
    }
    for name in arguments.parts.split(","):
        settings = {"rows": rows, "rounds": rounds} if name != "installed" else {}
        measured_once(folder / f"{name}.json", lambda name=name: {"part": name, **parts[name]()}, **settings)


def _sides(folder: Path, rows: int) -> Sides:
    carried = made_up(folder, rows)
    index = folder / "loaded"
    if not (index / CURRENT).exists():
        build(BuildConfig(tasks=folder / "tasks-1", out=index, device="cpu", reuse=carried.index, export=False))
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


def _installed(folder: Path) -> dict[str, object]:
    """Return megabytes on disk, compiled modules included."""
    sizes: dict[str, object] = {"service,cpu": _fresh(folder)}
    for extras in _EXTRAS:
        found = _required(extras)
        paths = (Path(str(item.locate_file(file))) for item in found.values() for file in item.files or ())
        sizes[extras] = {"packages": len(found), "mb": _megabytes(paths)}
    return sizes


def _fresh(folder: Path) -> dict[str, object]:
    environment, sources = folder / "environment", folder / "sources"
    venv.create(environment, clear=True, with_pip=True)
    # To install from the repository would leave folders in it.
    for name in _SOURCES:
        source = _REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, sources / name, dirs_exist_ok=True)
        else:
            sources.mkdir(exist_ok=True)
            shutil.copy(source, sources)
    pip = [str(environment / "bin/pip"), "--disable-pip-version-check", "--quiet", "install", "--no-deps"]
    subprocess.run([*pip, "--require-hashes", "-r", str(_REPOSITORY / "requirements/service.txt")], check=True)
    subprocess.run([*pip, "--no-build-isolation", str(sources)], check=True)
    # What installs is not needed by what runs.
    subprocess.run([str(environment / "bin/pip"), "--quiet", "uninstall", "--yes", "setuptools", "pip"], check=True)
    packages = list(environment.glob("lib/python*/site-packages/*.dist-info"))
    return {"packages": len(packages), "mb": _megabytes(environment.rglob("*"))}


def _megabytes(paths: Iterable[Path]) -> int:
    return round(sum(path.stat().st_size for path in paths if path.is_file() and not path.is_symlink()) / 1e6)


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
