"""What the benchmarks share: their arguments, timing in turns, ratios, and results that are measured once."""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

UDR = str(Path(sys.executable).with_name("udr"))
Seconds = dict[str, list[float]]


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help is a module's docstring."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def parts_parser(description: str | None, parts: Iterable[str]) -> argparse.ArgumentParser:
    """Return a parser of a benchmark in parts: the folder of its results, which parts, and whether they are small."""
    options = parser(description)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--parts", default=",".join(parts))
    options.add_argument("--quick", action="store_true")
    return options


def results_folder(arguments: argparse.Namespace, side: str = "") -> Path:
    """Return the folder of the results; small parts have another than whole ones, and so has each named side."""
    name = "quick" if arguments.quick else "whole"
    folder = Path(arguments.out) / (f"{name}-{side}" if side else name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def measured(path: Path, measure: Callable[[], Mapping[str, object]], **settings: object) -> dict[str, Any]:
    """Return a result with its settings, from the file if it exists; else measure it and write the file.

    Exits if the file has other settings: what it does not say counts as another one.
    """
    if not path.exists():
        path.write_text(json.dumps({**settings, **measure()}) + "\n", "utf-8")
    result: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if other := [name for name in settings if result.get(name) != settings[name]]:
        found = ", ".join(f"{name} {result.get(name, 'not stated')}, not {settings[name]}" for name in other)
        raise SystemExit(f"{path}: was measured with {found}; give that, or another --out")
    return result


def measured_once(path: Path, measure: Callable[[], Mapping[str, object]], **settings: object) -> None:
    """Print what ``measured`` returns as a JSON line."""
    print(json.dumps(measured(path, measure, **settings)), flush=True)


def seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds that work takes."""
    started = clock()
    work()
    return clock() - started


def in_turn(
    sides: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> Seconds:
    """Return the seconds of each side in each round; the sides take turns."""
    turns = [{name: seconds(work, clock) for name, work in sides.items()} for _ in range(rounds)]
    return {name: [turn[name] for turn in turns] for name in sides}


def ratios(over: Iterable[float], under: Iterable[float]) -> list[float]:
    """Return the ratio of each turn."""
    return [first / second for first, second in zip(over, under, strict=True)]


def median(values: Sequence[float], digits: int = 3) -> float:
    """Return the rounded median."""
    return round(statistics.median(values), digits)
