"""What the parts of ``benchmarks/gpu`` share: their arguments, the device, and a refusal where there is no card."""

import argparse
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1]
REPOSITORY = BENCHMARKS.parent
sys.path.insert(0, str(BENCHMARKS))

import torch  # noqa: E402
from measuring import measured_once, parser, seconds  # noqa: E402

from udr.models import BASE_ENCODER, DEFAULT_LM  # noqa: E402

Measure = Callable[[argparse.Namespace], dict[str, object]]


def part(name: str, description: str | None, measure: Measure, given: Sequence[str] | None = None) -> None:
    """Run a part: read its arguments, refuse without its device, measure once, and print and keep the result.

    Args:
        name: the part; its result is ``<name>.json``.
        description: its help.
        measure: returns the result.
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

    def result() -> dict[str, object]:
        measured: dict[str, object] = {}
        took = seconds(lambda: measured.update(measure(arguments)))
        return {"part": name, **machine, "seconds": round(took, 1), **measured}

    measured_once(folder / f"{name}.json", result)


def card(device: str, needed_by: str) -> dict[str, object]:
    """Return what a device is, for the results; exit if it cannot be used."""
    kind, versions = device.partition(":")[0], {"torch": torch.__version__, "python": platform.python_version()}
    if kind == "cpu":
        return {"device": "cpu", **versions}
    if kind != "cuda" or not torch.cuda.is_available():
        build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
        found = f"torch {torch.__version__} (built for {build}) sees {torch.cuda.device_count()} cards"
        raise SystemExit(f"{needed_by}: needs a CUDA card for --device {device}, but {found}; nothing was measured")
    properties = torch.cuda.get_device_properties(device)
    memory = round(properties.total_memory / 2**30, 1)
    return {"device": properties.name, "gib": memory, "cuda": torch.version.cuda, **versions}


def synchronize(device: str) -> None:
    """Wait until a device has done its work, so that a clock counts it."""
    if device != "cpu":
        torch.cuda.synchronize(device)
