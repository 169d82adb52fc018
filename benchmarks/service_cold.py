"""One part of ``service.py``: from the start of the process until it is ready, by stage.

    STAGES=FILE python benchmarks/service_cold.py serve INDEX OPTIONS

runs ``udr serve``, but first imports what loading an index would import, and writes the seconds of each stage to FILE.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from measuring import median
from service_made_up import MadeUp
from service_running import serving

_SERVICE, _MODELS = "import udr_service.server.run", "import faiss; from udr.models import OnnxEncoder"
_IMPORTED = re.compile(r"import time: +(\d+) \| +\d+ \| +(\w+)")


def cold(made: MadeUp, quick: bool) -> dict[str, object]:
    """Measure the time until the first answer, with the files in the system's cache."""
    totals: list[float] = []
    staged: list[dict[str, float]] = []
    file = made.index.parent / "stages.json"
    for _ in range(1 if quick else 5):
        with serving(made.index) as server:
            totals.append(server.cold_seconds)
        with serving(made.index, (sys.executable, __file__, "serve"), STAGES=str(file)) as server:
            stages: dict[str, float] = json.loads(file.read_text("utf-8"))
            staged.append({**stages, "the rest": server.cold_seconds - sum(stages.values())})
    return {
        "ready_seconds": median(totals, 2),
        "by_stage": {name: median([stages[name] for stages in staged], 2) for name in staged[0]},
        "slowest_imports": _slowest_imports(),
    }


def _slowest_imports(most: int = 12) -> dict[str, float]:
    """Return the seconds in each package's own modules, for the slowest packages; the timing itself adds some."""
    command = [sys.executable, "-X", "importtime", "-c", f"{_SERVICE}; {_MODELS}"]
    seconds: Counter[str] = Counter()
    for line in subprocess.run(command, stderr=subprocess.PIPE, text=True, check=True).stderr.splitlines():
        if match := _IMPORTED.match(line):
            seconds[match[2]] += int(match[1]) / 1e6
    return {name: round(value, 2) for name, value in seconds.most_common(most)}


class _Stages:
    """Writes the seconds of each stage to a file."""

    def __init__(self, file: Path) -> None:
        self._file, self._seconds = file, dict[str, float]()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block."""
        started = time.perf_counter()
        yield
        self._seconds[name] = time.perf_counter() - started
        self._file.write_text(json.dumps(self._seconds), "utf-8")

    def timed(self, name: str, work: Callable[..., object]) -> Callable[..., object]:
        """Return the function, timed."""

        def wrapped(*arguments: object, **keys: object) -> object:
            with self.stage(name):
                return work(*arguments, **keys)

        return wrapped


def _serve() -> int:
    stages = _Stages(Path(os.environ["STAGES"]))
    with stages.stage("imports: the service"):
        exec(_SERVICE)
    with stages.stage("imports: faiss, models"):
        exec(_MODELS)
    from udr.cli import main
    from udr_service.serving import index_source as loading

    for name in ("refuse_damage", "exported_encoder", "load_tokenizer"):
        setattr(loading, name, stages.timed(name.replace("_", " "), getattr(loading, name)))
    loading.Retriever.of_version = stages.timed("open the index", loading.Retriever.of_version)  # type: ignore
    return main()


if __name__ == "__main__":
    sys.exit(_serve())
