"""What the parts of ``benchmarks/gpu`` share: their arguments, the device, and a refusal where there is no card."""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1]
REPOSITORY = BENCHMARKS.parent
sys.path.insert(0, str(BENCHMARKS))

import torch  # noqa: E402
from measuring import measured_once, parser  # noqa: E402

from udr.errors import reason  # noqa: E402
from udr.models import BASE_ENCODER, DEFAULT_LM  # noqa: E402
from udr.search import faiss_build  # noqa: E402

Measure = Callable[[argparse.Namespace], Iterator[tuple[str, Callable[[], object]]]]
"""Yields the figures of a part: the name of each, and what measures it."""


def part(name: str, description: str | None, measure: Measure, given: Sequence[str] | None = None) -> None:
    """Run a part: read its arguments, refuse without its device, measure once, and print and keep the result.

    Each figure is kept in ``<name>.begun.json`` as soon as it is measured. If one fails, the others are measured, and
    the part ends with an error.

    Args:
        name: the part; its result is ``<name>.json``.
        description: its help.
        measure: yields the figures.
        given: the arguments; None takes those of the command line.
    """
    options = parser(description)
    options.add_argument(
        "--out", type=Path, required=True, help="the folder of results; what is there is not run again"
    )
    options.add_argument(
        "--device", default="cuda", help="cpu tries the part out, with --quick; its figures mean nothing"
    )
    options.add_argument("--quick", action="store_true", help="tiny sizes")
    options.add_argument("--lm", default=DEFAULT_LM)
    options.add_argument("--model", default=BASE_ENCODER)
    arguments = options.parse_args(given)
    machine = card(arguments.device, name)
    folder = arguments.out / ("quick" if arguments.quick else "whole")
    folder.mkdir(parents=True, exist_ok=True)

    measured: dict[str, object] = {"part": name, **machine}
    begun, failed = folder / f"{name}.begun.json", dict[str, str]()

    def result() -> dict[str, object]:
        for figure, work in measure(arguments):
            try:
                measured[figure] = work()
            except Exception as error:
                failed[figure] = reason(error)
                measured[figure] = {"failed": reason(error)}
            begun.write_text(json.dumps(measured) + "\n", "utf-8")
        if failed:
            problems = "; ".join(f"{figure}: {why}" for figure, why in failed.items())
            raise SystemExit(f"{name}: {problems}; the other figures are in {begun}")
        return measured

    started = time.monotonic()
    measured_once(folder / f"{name}.json", lambda: {**result(), "seconds": round(time.monotonic() - started, 1)})
    begun.unlink(missing_ok=True)


def card(device: str, needed_by: str) -> dict[str, object]:
    """Return what a device is, for the results, and what is beside it; exit if it cannot be used."""
    kind, versions = device.partition(":")[0], {"torch": torch.__version__, "python": platform.python_version()}
    beside = {**versions, "cpus": os.cpu_count(), "faiss_gpus": faiss_build()["gpus"]}
    if kind == "cpu":
        return {"device": "cpu", **beside}
    if kind != "cuda" or not torch.cuda.is_available():
        build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
        found = f"torch {torch.__version__} (built for {build}) sees {torch.cuda.device_count()} cards"
        raise SystemExit(f"{needed_by}: needs a CUDA card for --device {device}, but {found}; nothing was measured")
    properties = torch.cuda.get_device_properties(device)
    memory = round(properties.total_memory / 2**30, 1)
    return {"device": properties.name, "gib": memory, "cuda": torch.version.cuda, **beside}


def synchronize(device: str) -> None:
    """Wait until a device has done its work, so that a clock counts it."""
    if device != "cpu":
        torch.cuda.synchronize(device)
